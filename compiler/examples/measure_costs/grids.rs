//! Which extents are measured, and which a table is checked with.

use autoglm_passes::egraph::Kernel;

/// All combinations of the extents of a kernel's axes.
pub(crate) fn grid(kernel: Kernel) -> Vec<Vec<u64>> {
    let axes: &[&[u64]] = match kernel {
        Kernel::Gemm => &[&[1, 8, 32, 128, 512], &[16, 64, 256, 1024, 4096], &[16, 64, 256, 1024, 4096]],
        Kernel::Product => &[&[1, 16, 128, 512], &[16, 64, 256, 1024], &[16, 64, 256, 1024]],
        // Images of 7, 28 and 112 pixels a side.
        Kernel::Conv => &[&[1, 9], &[49, 784, 12544], &[4, 16, 64, 256], &[16, 64, 256]],
        Kernel::Winograd => &[&[49, 784, 12544], &[16, 64, 256], &[16, 64, 256]],
        Kernel::Depthwise => &[&[9, 25], &[49, 784], &[32, 128, 512]],
        // From the least products on, so that attention is not priced as more than it is where its parts are not.
        Kernel::Attention => &[&[1, 16, 32, 128, 512], &[16, 32, 128, 512, 1024], &[16, 32, 64, 128]],
        Kernel::LayerNorm | Kernel::Softmax | Kernel::Reduce => {
            &[&[1, 16, 128, 1024, 16384], &[8, 32, 128, 1024, 4096]]
        }
        // In the first, second and third level of the caches, and in memory.
        Kernel::Map => &[&[1 << 12, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28]],
        Kernel::Transcendental => &[&[256, 1 << 12, 1 << 16, 1 << 20, 1 << 23]],
        Kernel::Gather => &[&[1, 32, 512, 4096], &[16, 128, 1024]],
        Kernel::Transpose => &[&[16, 64, 256, 1024], &[16, 64, 256, 1024]],
        Kernel::Step => &[],
    };
    let mut all = vec![Vec::new()];
    for axis in axes {
        all = all.iter().flat_map(|at| axis.iter().map(move |x| [at.as_slice(), &[*x]].concat())).collect();
    }
    all
}

/// Extents of well-known models that no grid holds.
pub(crate) static CHECKED: &[(Kernel, &[u64])] = &[
    (Kernel::Gemm, &[128, 768, 3072]),
    (Kernel::Gemm, &[128, 3072, 768]),
    (Kernel::Gemm, &[16, 384, 1536]),
    (Kernel::Gemm, &[1, 768, 3072]),
    (Kernel::Gemm, &[197, 768, 2304]),
    (Kernel::Gemm, &[1, 2048, 1000]),
    (Kernel::Product, &[128, 64, 128]),
    (Kernel::Conv, &[49, 12544, 3, 64]),
    (Kernel::Conv, &[9, 3136, 64, 64]),
    (Kernel::Conv, &[9, 196, 256, 256]),
    (Kernel::Conv, &[1, 3136, 64, 256]),
    (Kernel::Conv, &[1, 196, 1024, 256]),
    (Kernel::Winograd, &[3136, 64, 64]),
    (Kernel::Winograd, &[196, 256, 256]),
    (Kernel::Depthwise, &[9, 3136, 144]),
    (Kernel::Depthwise, &[25, 196, 480]),
    (Kernel::Attention, &[197, 197, 64]),
    (Kernel::Attention, &[1, 640, 64]),
    (Kernel::LayerNorm, &[197, 768]),
    (Kernel::Softmax, &[1536, 128]),
    (Kernel::Reduce, &[197, 768]),
    (Kernel::Map, &[1_179_648]),
    (Kernel::Transcendental, &[393_216]),
    (Kernel::Gather, &[128, 768]),
    (Kernel::Transpose, &[197, 768]),
];
