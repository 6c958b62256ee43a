"""The models that export.py exports: small configurations of known architectures, with the structure of the real ones."""
import torch
from torch import nn

MODELS = {}
LEGACY, DYNAMO = [17, 14, 13, 11, 18, 16, 20, 15], [18, 20, 21, 18, 19, 23]


def flat(x):
    """The float and integer tensors of nested outputs, in order."""
    if isinstance(x, torch.Tensor):
        return [x]
    if isinstance(x, dict):
        x = x.values()
    elif hasattr(x, "layers"):
        x = [t for layer in x.layers for t in (layer.keys, layer.values)]
    return [t for y in x if y is not None and not isinstance(y, (bool, int, float)) for t in flat(y)]


def by_name(model, inputs):
    return model(**inputs)


def by_position(model, inputs):
    return model(*inputs.values())


def entry(name, make, inputs, call=by_name, **options):
    n = len(MODELS)
    MODELS[name] = dict(make=make, inputs=inputs, call=call, opset=(LEGACY[n % len(LEGACY)], DYNAMO[n % len(DYNAMO)])) | options


# ---------------------------------------------------------------- images
def image(name, make, channels=3, size=None, **options):
    sides = (size, size) if size else ("H", "W")
    inputs = {"image": ("f", "B", channels, *sides)}
    entry(name, make, inputs, by_position, **options)


def vision(name, **kw):
    import torchvision
    return getattr(torchvision.models, name)(weights=None, **kw)


for n in ("resnet18 resnext50_32x4d wide_resnet50_2 mobilenet_v3_small mobilenet_v3_large efficientnet_v2_s densenet121 shufflenet_v2_x1_0 "
          "mnasnet0_5 regnet_y_400mf regnet_x_400mf convnext_tiny vgg11_bn alexnet").split():
    image(n, lambda n=n: vision(n))
image("googlenet", lambda: vision("googlenet", init_weights=False, aux_logits=False))
image("inception_v3", lambda: vision("inception_v3", init_weights=False, aux_logits=False), size=107)
image("vit_tv", lambda: vision("vit_b_32"), size=224)
image("swin_v2_t", lambda: vision("swin_v2_t"), size=64)
image("swin_t_static", lambda: vision("swin_t"), size=64, static=True)
image("maxvit", lambda: __import__("torchvision").models.MaxVit((64, 64), 16, 32, [32, 64], [1, 2], 0.0, partition_size=4), size=64)


def segmentation(name):
    import torchvision
    return getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, num_classes=5)


image("fcn_resnet50", lambda: segmentation("fcn_resnet50"))
image("deeplabv3_mobile", lambda: segmentation("deeplabv3_mobilenet_v3_large"), size=96)
image("lraspp_mobile", lambda: segmentation("lraspp_mobilenet_v3_large"))

TIMM = ("ghostnet_100 repvgg_a0 hardcorenas_a mobilevit_s mobilevitv2_050 efficientformer_l1 poolformer_s12 edgenext_xx_small mobileone_s0 "
        "resnest14d cspdarknet53 dla34 hrnet_w18_small mixnet_s tf_efficientnet_lite0 xception41 visformer_tiny coatnet_0_rw_224 "
        "deit_tiny_patch16_224 beit_base_patch16_224 crossvit_tiny_240 cait_xxs24_224 mixer_s32_224 resmlp_12_224 gmlp_ti16_224 levit_128s "
        "xcit_nano_12_p16_224 pit_ti_224 twins_pcpvt_small convnextv2_atto fastvit_t8 repvit_m0_9 eva02_tiny_patch14_224 nfnet_f0 "
        "tinynet_e fbnetc_100 lcnet_050 rexnet_100 efficientvit_b0 mobilenetv4_conv_small convmixer_768_32 davit_tiny focalnet_tiny_srf "
        "volo_d1_224 tnt_s_patch16_224 vit_tiny_r_s16_p8_224 selecsls42 skresnet18 ese_vovnet19b_dw seresnet50 ecaresnet26t gcresnext26ts "
        "botnet26t_256 halonet26t maxvit_rmlp_pico_rw_256 coat_lite_tiny pvt_v2_b0 nextvit_small inception_next_tiny starnet_s1 hgnet_tiny "
        "swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 vit_base_patch16_siglip_224 samvit_base_patch16_224").split()


def timm_model(name):
    import timm
    return timm.create_model(name, pretrained=False)


def timm_size(name):
    for size in (240, 256):
        if str(size) in name:
            return size
    return 224


for n in TIMM:
    image("timm_" + n, lambda n=n: timm_model(n), size=timm_size(n))


class UNet(nn.Module):
    """Two levels of an encoder and a decoder with skips; `up` is how the decoder upsamples, `norm` how it normalises."""

    def __init__(self, up="transpose", norm=nn.BatchNorm2d, act=nn.ReLU, w=16):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), norm(o), act(), nn.Conv2d(o, o, 3, padding=1, bias=False), norm(o), act())

        def raise_(i, o):
            if up == "transpose":
                return nn.ConvTranspose2d(i, o, 2, stride=2)
            if up == "transpose4":
                return nn.ConvTranspose2d(i, o, 4, stride=2, padding=1)
            if up == "shuffle":
                return nn.Sequential(nn.Conv2d(i, 4 * o, 1), nn.PixelShuffle(2))
            corners = None if up == "nearest" else up == "corners"
            return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest" if up == "nearest" else "bilinear", align_corners=corners), nn.Conv2d(i, o, 1))

        self.a, self.b, self.c = block(3, w), block(w, 2 * w), block(2 * w, 4 * w)
        self.u, self.d, self.v, self.e = raise_(4 * w, 2 * w), block(4 * w, 2 * w), raise_(2 * w, w), block(2 * w, w)
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(w, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(self.pool(a))
        y = self.u(self.c(self.pool(b)))
        y = self.v(self.d(torch.cat([y, b], 1)))
        return self.head(self.e(torch.cat([a, y], 1)))


image("unet_transpose", lambda: UNet())
image("unet_transpose4", lambda: UNet("transpose4", act=lambda: nn.LeakyReLU(0.1)))
image("unet_bilinear", lambda: UNet("bilinear", act=nn.SiLU))
image("unet_corners", lambda: UNet("corners", lambda c: nn.GroupNorm(4, c), nn.GELU))
image("unet_nearest", lambda: UNet("nearest", lambda c: nn.InstanceNorm2d(c, affine=True), nn.Mish))
image("unet_shuffle", lambda: UNet("shuffle", act=nn.PReLU))
image("unet_hardswish", lambda: UNet("nearest", act=nn.Hardswish))
image("unet_elu", lambda: UNet("nearest", act=nn.ELU))


class Yolo(nn.Module):
    """CSP backbone, a spatial pyramid, a feature pyramid and heads whose boxes are decoded from distributions; no suppression."""

    def __init__(self, act=nn.SiLU, w=16, bins=16):
        super().__init__()
        self.bins = bins

        def conv(i, o, k=1, s=1):
            return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), act())

        self.stem, self.down1, self.down2 = conv(3, w, 3, 2), conv(w, 2 * w, 3, 2), conv(2 * w, 4 * w, 3, 2)
        self.split, self.left, self.right, self.join = conv(2 * w, 2 * w), conv(w, w, 3), conv(w, w, 3), conv(3 * w, 2 * w)
        self.s1, self.s2, self.pool = conv(4 * w, 2 * w), conv(8 * w, 4 * w), nn.MaxPool2d(5, 1, 2)
        self.up, self.lat = nn.Upsample(scale_factor=2), conv(6 * w, 2 * w)
        self.boxes = nn.ModuleList([nn.Sequential(conv(c, w, 3), nn.Conv2d(w, 4 * bins, 1)) for c in (2 * w, 4 * w)])
        self.classes = nn.ModuleList([nn.Sequential(conv(c, w, 3), nn.Conv2d(w, 7, 1)) for c in (2 * w, 4 * w)])

    def forward(self, x):
        x = self.split(self.down1(self.stem(x)))
        a, b = x.chunk(2, 1)
        p = self.join(torch.cat([a, b, b + self.right(self.left(b))], 1))
        q = self.s1(self.down2(p))
        r = self.pool(q)
        s = self.pool(r)
        q = self.s2(torch.cat([q, r, s, self.pool(s)], 1))
        p = self.lat(torch.cat([self.up(q), p], 1))
        levels = [torch.cat([box(f), cls(f)], 1) for f, box, cls in zip((p, q), self.boxes, self.classes)]
        grid = []
        for f, stride in zip((p, q), (4, 8)):
            h, v = f.shape[2:]
            y, z = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(v) + 0.5, indexing="ij")
            grid.append((torch.stack([z, y], -1).reshape(-1, 2), torch.full((h * v, 1), float(stride))))
        anchors, strides = (torch.cat(t).T.unsqueeze(0) for t in zip(*grid))
        y = torch.cat([f.flatten(2) for f in levels], 2)
        box, cls = y.split([4 * self.bins, 7], 1)
        b, _, n = box.shape
        box = (box.view(b, 4, self.bins, n).transpose(2, 1).softmax(1) * torch.arange(self.bins, dtype=torch.float).view(1, -1, 1, 1)).sum(1)
        lt, rb = box.chunk(2, 1)
        low, high = anchors - lt, anchors + rb
        return torch.cat([torch.cat([(low + high) / 2, high - low], 1) * strides, cls.sigmoid()], 1)


image("yolo_silu", lambda: Yolo())
image("yolo_static", lambda: Yolo(), size=64, static=True)
image("yolo_leaky", lambda: Yolo(lambda: nn.LeakyReLU(0.1)), size=64)
image("yolo_mish", lambda: Yolo(nn.Mish), size=64)


# ---------------------------------------------------------------- transformers
def hf(cls, config, attn="sdpa", **kw):
    import transformers
    cls, config = getattr(transformers, cls), getattr(transformers, config)
    made = config(**kw)
    return cls._from_config(made, attn_implementation=attn) if attn else cls(made)


SMALL = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=100, max_position_embeddings=64)
IDS, MASK, TYPES = ("i100", "B", "S"), ("mask", "B", "S"), ("i2", "B", "S")


def encoder(name, cls, config, types=False, attn=("sdpa", "eager"), sizes=SMALL, **kw):
    inputs = {"input_ids": IDS, "attention_mask": MASK} | ({"token_type_ids": TYPES} if types else {})
    for i, a in enumerate(attn):
        entry(name + ("" if i == 0 else "_eager"), lambda a=a: hf(cls, config, a, **sizes | kw), inputs)


encoder("bert", "BertModel", "BertConfig", True)
encoder("bert_tanh", "BertForSequenceClassification", "BertConfig", True, ("sdpa",), hidden_act="gelu_new")
encoder("bert_mlm", "BertForMaskedLM", "BertConfig", True, ("sdpa",))
encoder("bert_qa", "BertForQuestionAnswering", "BertConfig", True, ("sdpa",))
encoder("bert_ner", "BertForTokenClassification", "BertConfig", True, ("sdpa",))
encoder("distilbert", "DistilBertModel", "DistilBertConfig", sizes=dict(dim=64, n_layers=2, n_heads=4, hidden_dim=128, vocab_size=100, max_position_embeddings=64))
encoder("roberta", "RobertaModel", "RobertaConfig", pad_token_id=1)
encoder("xlm_roberta_cls", "XLMRobertaForSequenceClassification", "XLMRobertaConfig", attn=("sdpa",), pad_token_id=1)
encoder("camembert", "CamembertModel", "CamembertConfig", attn=("sdpa",), pad_token_id=1)
encoder("albert", "AlbertModel", "AlbertConfig", True, embedding_size=32)
encoder("electra", "ElectraModel", "ElectraConfig", True, embedding_size=32)
encoder("mpnet", "MPNetModel", "MPNetConfig", attn=("eager",))
encoder("deberta", "DebertaModel", "DebertaConfig", attn=("eager",), relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=0)
encoder("deberta_v2", "DebertaV2Model", "DebertaV2Config", attn=("eager",), relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8,
        norm_rel_ebd="layer_norm", share_att_key=True, type_vocab_size=0, position_biased_input=False)
encoder("modernbert", "ModernBertModel", "ModernBertConfig", global_attn_every_n_layers=2, local_attention=8, pad_token_id=0)
encoder("nomic_bert", "NomicBertModel", "NomicBertConfig", attn=("sdpa",))
encoder("convbert", "ConvBertModel", "ConvBertConfig", True, ("eager",), embedding_size=32, head_ratio=2, conv_kernel_size=3)
encoder("squeezebert", "SqueezeBertModel", "SqueezeBertConfig", True, ("eager",), embedding_size=64)
encoder("fnet", "FNetModel", "FNetConfig", True, ("eager",))
encoder("xlm", "XLMModel", "XLMConfig", attn=("eager",), sizes=dict(vocab_size=100, emb_dim=64, n_layers=2, n_heads=4, max_position_embeddings=64))
encoder("longformer", "LongformerModel", "LongformerConfig", attn=("eager",), attention_window=4)
encoder("esm", "EsmModel", "EsmConfig", attn=("eager",), position_embedding_type="rotary", pad_token_id=1, mask_token_id=2)
encoder("funnel", "FunnelBaseModel", "FunnelConfig", attn=("eager",), sizes=dict(vocab_size=100, d_model=64, n_head=4, d_head=16, d_inner=128, block_sizes=[1, 1]))


class Sentence(nn.Module):
    """Mean pooling under the mask and normalisation, as sentence embedders are exported."""

    def __init__(self, model, how):
        super().__init__()
        self.model, self.how = model, how

    def forward(self, input_ids, attention_mask):
        x = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        if self.how == "mean":
            m = attention_mask.unsqueeze(-1).expand(x.size()).float()
            x = torch.sum(x * m, 1) / torch.clamp(m.sum(1), min=1e-9)
        else:
            x = x[:, 0]
        return nn.functional.normalize(x, p=2, dim=1)


for how in ("mean", "cls"):
    entry("sentence_" + how, lambda how=how: Sentence(hf("MPNetModel" if how == "mean" else "BertModel", "MPNetConfig" if how == "mean" else "BertConfig", "eager", **SMALL), how),
          {"input_ids": IDS, "attention_mask": MASK})


# decoders
HEADS = 4


def with_cache(model, inputs):
    import transformers
    inputs = dict(inputs)
    past = [inputs.pop(n) for n in list(inputs) if n.startswith("past_")]
    cache = transformers.DynamicCache()
    for i in range(0, len(past), 2):
        cache.update(past[i], past[i + 1], i // 2)
    return model(**inputs, past_key_values=cache, use_cache=True)


def decoder(name, cls, config, kv=HEADS, head=16, attn=("sdpa", "eager"), sizes=SMALL, cache=True, plain=True, layers=2, positions=False, **kw):
    for i, a in enumerate(attn):
        end = "" if i == 0 else "_eager"
        make = lambda a=a: hf(cls, config, a, **sizes | kw)
        if plain:
            entry(name + end, make, {"input_ids": IDS, "attention_mask": ("leftmask", "B", "S")}, lambda m, x: m(**x, use_cache=False))
        if cache:
            inputs = {"input_ids": IDS, "attention_mask": ("leftmask", "B", "P+S")}
            if positions:
                inputs["position_ids"] = ("arange", "B", "S")
            for layer in range(layers):
                for part in ("key", "value"):
                    inputs[f"past_{layer}_{part}"] = ("f", "B", kv, "P", head)
            entry(name + "_past" + end, make, inputs, with_cache)


GPT = dict(n_embd=64, n_layer=2, n_head=4, n_positions=64, vocab_size=100)
decoder("gpt2", "GPT2LMHeadModel", "GPT2Config", sizes=GPT)
decoder("gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXConfig", rotary_pct=0.25)
decoder("gpt_neo", "GPTNeoForCausalLM", "GPTNeoConfig", attn=("eager",), sizes=dict(hidden_size=64, num_layers=2, num_heads=4, vocab_size=100, max_position_embeddings=64, attention_types=[[["global", "local"], 1]], window_size=8))
decoder("gptj", "GPTJForCausalLM", "GPTJConfig", sizes=GPT | dict(rotary_dim=8), attn=("eager",))
decoder("codegen", "CodeGenForCausalLM", "CodeGenConfig", sizes=GPT | dict(rotary_dim=8), attn=("eager",), cache=False)
decoder("gpt_bigcode", "GPTBigCodeForCausalLM", "GPTBigCodeConfig", sizes=GPT, kv=1, cache=False, multi_query=True)
decoder("opt", "OPTForCausalLM", "OPTConfig", sizes=dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, ffn_dim=128, vocab_size=100, max_position_embeddings=64, word_embed_proj_dim=64))
decoder("bloom", "BloomForCausalLM", "BloomConfig", attn=("eager",), sizes=dict(hidden_size=64, n_layer=2, n_head=4, vocab_size=100))
decoder("mpt", "MptForCausalLM", "MptConfig", attn=("eager",), sizes=dict(d_model=64, n_layers=2, n_heads=4, vocab_size=100, max_seq_len=64))
decoder("llama", "LlamaForCausalLM", "LlamaConfig", kv=2, num_key_value_heads=2)
decoder("llama3", "LlamaForCausalLM", "LlamaConfig", kv=2, num_key_value_heads=2, attn=("sdpa",), tie_word_embeddings=True,
        rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32))
decoder("mistral", "MistralForCausalLM", "MistralConfig", kv=2, num_key_value_heads=2, sliding_window=8, cache=False)
decoder("qwen2", "Qwen2ForCausalLM", "Qwen2Config", kv=2, num_key_value_heads=2, positions=True)
decoder("qwen3", "Qwen3ForCausalLM", "Qwen3Config", kv=2, num_key_value_heads=2, head_dim=16)
decoder("phi", "PhiForCausalLM", "PhiConfig", partial_rotary_factor=0.5)
decoder("phi3", "Phi3ForCausalLM", "Phi3Config", kv=2, num_key_value_heads=2, pad_token_id=0)
decoder("gemma", "GemmaForCausalLM", "GemmaConfig", kv=1, num_key_value_heads=1, head_dim=16)
decoder("gemma2", "Gemma2ForCausalLM", "Gemma2Config", kv=2, num_key_value_heads=2, head_dim=16, sliding_window=8, query_pre_attn_scalar=16, attn=("eager",), cache=False)
decoder("gemma3", "Gemma3ForCausalLM", "Gemma3TextConfig", kv=2, num_key_value_heads=2, head_dim=16, sliding_window=8, query_pre_attn_scalar=16, cache=False)
decoder("glm", "GlmForCausalLM", "GlmConfig", kv=2, num_key_value_heads=2, head_dim=16, pad_token_id=0)
decoder("glm4", "Glm4ForCausalLM", "Glm4Config", kv=2, num_key_value_heads=2, head_dim=16, pad_token_id=0)
decoder("falcon_mq", "FalconForCausalLM", "FalconConfig", kv=1, multi_query=True, new_decoder_architecture=False, parallel_attn=True)
decoder("falcon_new", "FalconForCausalLM", "FalconConfig", kv=2, new_decoder_architecture=True, num_kv_heads=2, attn=("eager",), cache=False)
decoder("falcon_alibi", "FalconForCausalLM", "FalconConfig", attn=("eager",), alibi=True, multi_query=False, cache=False)
decoder("cohere", "CohereForCausalLM", "CohereConfig", kv=2, num_key_value_heads=2, attn=("sdpa",), use_qk_norm=True, pad_token_id=0)
decoder("olmo2", "Olmo2ForCausalLM", "Olmo2Config", attn=("sdpa",))
decoder("stablelm", "StableLmForCausalLM", "StableLmConfig", attn=("sdpa",), cache=False)
decoder("starcoder2", "Starcoder2ForCausalLM", "Starcoder2Config", kv=2, num_key_value_heads=2, attn=("sdpa",))
decoder("granite", "GraniteForCausalLM", "GraniteConfig", kv=2, num_key_value_heads=2, attn=("sdpa",), attention_multiplier=0.2, residual_multiplier=0.3, embedding_multiplier=12.0, logits_scaling=8.0)
decoder("smollm3", "SmolLM3ForCausalLM", "SmolLM3Config", kv=2, num_key_value_heads=2, attn=("sdpa",), pad_token_id=0)
decoder("persimmon", "PersimmonForCausalLM", "PersimmonConfig", attn=("eager",), cache=False)
decoder("nemotron", "NemotronForCausalLM", "NemotronConfig", kv=2, num_key_value_heads=2, attn=("eager",), cache=False)
decoder("mixtral", "MixtralForCausalLM", "MixtralConfig", kv=2, num_key_value_heads=2, attn=("sdpa",), cache=False, num_local_experts=4, sliding_window=None)
decoder("qwen2_moe", "Qwen2MoeForCausalLM", "Qwen2MoeConfig", kv=2, num_key_value_heads=2, attn=("sdpa",), cache=False, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=48)
decoder("qwen3_moe", "Qwen3MoeForCausalLM", "Qwen3MoeConfig", kv=2, num_key_value_heads=2, attn=("sdpa",), cache=False, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
decoder("deepseek_v3", "DeepseekV3ForCausalLM", "DeepseekV3Config", attn=("eager",), cache=False, num_key_value_heads=4, n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2, moe_intermediate_size=32, q_lora_rank=24, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=16, first_k_dense_replace=1)
decoder("gpt_oss", "GptOssForCausalLM", "GptOssConfig", kv=2, num_key_value_heads=2, head_dim=16, attn=("eager",), cache=False, num_local_experts=4, num_experts_per_tok=2, sliding_window=8)
decoder("mamba", "MambaForCausalLM", "MambaConfig", attn=(None,), cache=False, sizes=dict(hidden_size=64, num_hidden_layers=2, vocab_size=100, state_size=8))


class ChatGlm(nn.Module):
    """Interleaved rotation of half of each head by a table of cosines and sines, fused projections, SwiGLU, grouped heads."""

    def __init__(self, d=64, heads=4, groups=2, layers=2, vocab=100):
        super().__init__()
        self.heads, self.groups, self.d = heads, groups, d // heads
        self.embed = nn.Embedding(vocab, d)
        self.layers = nn.ModuleList([nn.ModuleDict(dict(n1=nn.RMSNorm(d, eps=1e-5), qkv=nn.Linear(d, d + 2 * groups * self.d), out=nn.Linear(d, d, bias=False),
                                                        n2=nn.RMSNorm(d, eps=1e-5), up=nn.Linear(d, 4 * d, bias=False), down=nn.Linear(2 * d, d, bias=False))) for _ in range(layers)])
        theta = 1.0 / (10000 ** (torch.arange(0, self.d // 2, 2).float() / (self.d // 2)))
        angle = torch.outer(torch.arange(64).float(), theta)
        self.register_buffer("cache", torch.stack([torch.cos(angle), torch.sin(angle)], -1))
        self.norm, self.head = nn.RMSNorm(d, eps=1e-5), nn.Linear(d, vocab, bias=False)

    def rotate(self, x, cache):
        b, n, s, d = x.shape
        x, rest = x[..., : d // 2], x[..., d // 2:]
        pairs = x.reshape(b, n, s, d // 4, 2)
        c = cache.view(-1, 1, s, d // 4, 2)
        turned = torch.stack([pairs[..., 0] * c[..., 0] - pairs[..., 1] * c[..., 1], pairs[..., 1] * c[..., 0] + pairs[..., 0] * c[..., 1]], -1)
        return torch.cat((turned.flatten(3), rest), -1)

    def forward(self, input_ids, position_ids):
        x, cache = self.embed(input_ids), self.cache[position_ids]
        b, s, _ = x.shape
        for m in self.layers:
            q, k, v = m.qkv(m.n1(x)).split([self.heads * self.d, self.groups * self.d, self.groups * self.d], -1)
            q, k, v = (t.view(b, s, -1, self.d).transpose(1, 2) for t in (q, k, v))
            q, k = self.rotate(q, cache), self.rotate(k, cache)
            k, v = (t.unsqueeze(2).expand(-1, -1, self.heads // self.groups, -1, -1).contiguous().view(b, self.heads, s, self.d) for t in (k, v))
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + m.out(y.transpose(1, 2).reshape(b, s, -1))
            a, g = m.up(m.n2(x)).chunk(2, -1)
            x = x + m.down(nn.functional.silu(a) * g)
        return self.head(self.norm(x))


entry("chatglm", ChatGlm, {"input_ids": IDS, "position_ids": ("arange", "B", "S")})

# encoder-decoders
T5 = dict(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_decoder_layers=2, num_heads=4, vocab_size=100, decoder_start_token_id=0)
BART = dict(d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, vocab_size=100, max_position_embeddings=64)
SEQ = {"input_ids": ("i100", "B", "E"), "attention_mask": ("mask", "B", "E"), "decoder_input_ids": IDS}


def seq2seq(name, cls, config, attn=("sdpa", "eager"), inputs=SEQ, **kw):
    for i, a in enumerate(attn):
        entry(name + ("" if i == 0 else "_eager"), lambda a=a: hf(cls, config, a, **kw), inputs, lambda m, x: m(**x, use_cache=False))


seq2seq("t5", "T5ForConditionalGeneration", "T5Config", ("eager",), **T5)
seq2seq("mt5", "MT5ForConditionalGeneration", "MT5Config", ("eager",), **T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False))
entry("mt5_encoder", lambda: hf("MT5EncoderModel", "MT5Config", "eager", **T5 | dict(feed_forward_proj="gated-gelu")), {"input_ids": IDS, "attention_mask": MASK})
seq2seq("flan_silu", "T5ForConditionalGeneration", "T5Config", ("eager",), **T5 | dict(feed_forward_proj="gated-silu", tie_word_embeddings=False))
seq2seq("umt5", "UMT5ForConditionalGeneration", "UMT5Config", ("eager",), **T5 | dict(feed_forward_proj="gated-gelu"))
seq2seq("bart", "BartForConditionalGeneration", "BartConfig", **BART)
seq2seq("marian", "MarianMTModel", "MarianConfig", **BART | dict(pad_token_id=0, decoder_start_token_id=0, activation_function="swish", scale_embedding=True))
seq2seq("pegasus", "PegasusForConditionalGeneration", "PegasusConfig", ("sdpa",), **BART)
seq2seq("m2m", "M2M100ForConditionalGeneration", "M2M100Config", ("sdpa",), **BART)
seq2seq("whisper", "WhisperForConditionalGeneration", "WhisperConfig", inputs={"input_features": ("f", "B", 20, 60), "decoder_input_ids": IDS},
        **BART | dict(num_mel_bins=20, max_source_positions=30, max_target_positions=64, pad_token_id=0, decoder_start_token_id=1))
entry("whisper_encoder", lambda: hf("WhisperModel", "WhisperConfig", "eager", **BART | dict(num_mel_bins=20, max_source_positions=30, max_target_positions=64)).get_encoder(),
      {"input_features": ("f", "B", 20, 60)})


def cross_cache(model, inputs):
    import transformers
    inputs = dict(inputs)
    past = [inputs.pop(n) for n in list(inputs) if n.startswith("past_")]
    own, cross = transformers.DynamicCache(), transformers.DynamicCache()
    for i in range(0, len(past), 4):
        own.update(past[i], past[i + 1], i // 4)
        cross.update(past[i + 2], past[i + 3], i // 4)
    cache = transformers.EncoderDecoderCache(own, cross)
    hidden = inputs.pop("encoder_hidden_states")
    made = model(encoder_outputs=(hidden,), **inputs, past_key_values=cache, use_cache=True)
    return [made.logits, own]


PAST = {"decoder_input_ids": ("i100", "B", 1), "attention_mask": ("mask", "B", "E"), "encoder_hidden_states": ("f", "B", "E", 64)} | {
    f"past_{l}_{w}_{p}": ("f", "B", 4, "P" if w == "own" else "E", 16) for l in range(2) for w in ("own", "cross") for p in ("key", "value")}
entry("bart_past", lambda: hf("BartForConditionalGeneration", "BartConfig", "sdpa", **BART), PAST, cross_cache)
entry("t5_past", lambda: hf("T5ForConditionalGeneration", "T5Config", "eager", **T5), PAST, cross_cache)

# vision and speech transformers
VIT = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=64, patch_size=16)


def pixels(name, cls, config, attn=("sdpa", "eager"), sizes=VIT, size=64, **kw):
    for i, a in enumerate(attn):
        entry(name + ("" if i == 0 else "_eager"), lambda a=a: hf(cls, config, a, **sizes | kw), {"pixel_values": ("f", "B", 3, size, size)})


pixels("vit", "ViTModel", "ViTConfig")
pixels("deit", "DeiTForImageClassificationWithTeacher", "DeiTConfig", ("sdpa",))
pixels("beit", "BeitModel", "BeitConfig", use_relative_position_bias=True, use_shared_relative_position_bias=False)
pixels("clip_vision", "CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=32)
pixels("siglip_vision", "SiglipVisionModel", "SiglipVisionConfig")
pixels("dinov2", "Dinov2Model", "Dinov2Config", ("sdpa",))
pixels("dinov3", "DINOv3ViTModel", "DINOv3ViTConfig", ("sdpa",))
pixels("swinv2", "Swinv2Model", "Swinv2Config", ("eager",), sizes=dict(image_size=64, patch_size=4, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4))
pixels("segformer", "SegformerForSemanticSegmentation", "SegformerConfig", ("eager",), sizes=dict(depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=32))
pixels("yolos", "YolosForObjectDetection", "YolosConfig", ("sdpa",), sizes=VIT | dict(image_size=[64, 64], num_detection_tokens=10))
pixels("mobilevit", "MobileViTModel", "MobileViTConfig", (None,), sizes={}, size=128)
pixels("pvt", "PvtModel", "PvtConfig", (None,), sizes=dict(image_size=64, depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4]))
pixels("swiftformer", "SwiftFormerModel", "SwiftFormerConfig", (None,), sizes={})
pixels("depth_anything", "DPTForDepthEstimation", "DPTConfig", ("sdpa",), sizes=VIT | dict(num_hidden_layers=4, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 32, 48, 64], fusion_hidden_size=32, reassemble_factors=[4, 2, 1, 0.5], is_hybrid=False))
encoder("clip_text", "CLIPTextModelWithProjection", "CLIPTextConfig", projection_dim=32, eos_token_id=99, bos_token_id=98)
encoder("siglip_text", "SiglipTextModel", "SiglipTextConfig", attn=("sdpa",))
W2V = SMALL | dict(conv_dim=(32, 32, 32), conv_kernel=(10, 3, 3), conv_stride=(5, 2, 2), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
for n, kw in (("wav2vec2", {}), ("wav2vec2_stable", dict(do_stable_layer_norm=True, feat_extract_norm="layer"))):
    entry(n, lambda kw=kw: hf("Wav2Vec2ForCTC", "Wav2Vec2Config", "sdpa", **W2V | kw), {"input_values": ("f", "B", 1600)})
entry("hubert", lambda: hf("HubertModel", "HubertConfig", "eager", **W2V), {"input_values": ("f", "B", 1600)})


# ---------------------------------------------------------------- recurrent networks
class Recurrent(nn.Module):
    """Embedding, a recurrent network, a linear head; `packed` sorts by length first."""

    def __init__(self, cls, packed=False, head="all", **kw):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(100, 32), cls(32, 48, batch_first=True, **kw)
        self.packed, self.head, self.out = packed, head, nn.Linear(48 * (2 if kw.get("bidirectional") else 1), 10)

    def forward(self, input_ids, lengths=None):
        x = self.embed(input_ids)
        if self.packed:
            x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, state = self.rnn(x)
        if self.packed:
            y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
        h = state[0] if isinstance(state, tuple) else state
        return (self.out(y), h) if self.head == "all" else self.out(y[:, -1])


for n, kw in dict(lstm=dict(cls=nn.LSTM), lstm_bi=dict(cls=nn.LSTM, bidirectional=True, num_layers=2), gru=dict(cls=nn.GRU, num_layers=3, head="last"),
                  gru_bi=dict(cls=nn.GRU, bidirectional=True), rnn_relu=dict(cls=nn.RNN, nonlinearity="relu", num_layers=2),
                  lstm_proj=dict(cls=nn.LSTM, num_layers=2, head="last")).items():
    entry("rnn_" + n, lambda kw=kw: Recurrent(**kw), {"input_ids": IDS})


class Speech(nn.Module):
    """Convolutions over a spectrogram, a bidirectional GRU, characters."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, (5, 3), (2, 2), (2, 1)), nn.BatchNorm2d(8), nn.Hardtanh(0, 20), nn.Conv2d(8, 16, 3, (2, 1), 1), nn.BatchNorm2d(16), nn.GELU())
        self.rnn, self.out = nn.GRU(16 * 5, 32, 2, batch_first=True, bidirectional=True), nn.Linear(64, 30)

    def forward(self, x):
        x = self.conv(x.unsqueeze(1))
        b, c, f, t = x.shape
        return self.out(self.rnn(x.permute(0, 3, 1, 2).reshape(b, t, c * f))[0]).log_softmax(-1)


entry("speech_gru", Speech, {"x": ("f", "B", 20, "F")}, by_position)


class TorchTransformer(nn.Module):
    """PyTorch's own transformer, which its exporters write in their own way."""

    def __init__(self, act="gelu", first=False, causal=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, activation=act, batch_first=True, norm_first=first)
        self.net, self.embed, self.causal = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Embedding(100, 64), causal

    def forward(self, input_ids):
        x = self.embed(input_ids)
        if not self.causal:
            return self.net(x)
        return self.net(x, mask=torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1))


entry("torch_encoder", TorchTransformer, {"input_ids": IDS})
entry("torch_encoder_first", lambda: TorchTransformer("relu", True, True), {"input_ids": IDS})
