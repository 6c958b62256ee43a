//! The stable code of each kind of problem that this crate reports: reading a model (`E010x` to `E015x`), importing it
//! (`E013x`, `E016x`), passes (`E03xx`), lowering (`E04xx`). Warnings start with `W`.

autoglm_runtime::error_codes! {
    IO = "E0100", "The file cannot be opened or read.", "Check the path and the permissions.";
    NOT_ONNX = "E0101", "The file is something else than an ONNX model.",
        "Give an ONNX model; the message says what the file looks like.";
    WIRE = "E0102", "The bytes are not a well-formed protobuf message.",
        "The file is cut off or damaged: copy or export it again.";
    LIMIT = "E0103", "A limit on size, number or depth is exceeded.",
        "Raise the limit with `--limit` if you trust the model.";
    SCHEMA = "E0104", "A well-formed message does not fit the ONNX schema.",
        "Export the model again with a current exporter.";
    NO_GRAPH = "E0105", "The model has no graph.", "Give a model with a graph.";
    OPSET = "E0106", "An operator set is imported twice with different versions.", "Export the model again.";
    EXTERNAL_ENTRY = "E0110", "An external data entry has an unknown, repeated or malformed key.",
        "Export the model again.";
    EXTERNAL_LOCATION = "E0111", "An external data location leaves the model's directory.",
        "Keep the weights beside the model, under a relative path.";
    EXTERNAL_OPEN = "E0112", "An external data file cannot be opened.",
        "Copy the file with the weights beside the model.";
    EXTERNAL_KIND = "E0113", "An external data file is a link, a directory, a device or a pipe.",
        "Use a regular file, or `--allow-external-links` if the link is meant.";
    EXTERNAL_RANGE = "E0114", "An external data range lies outside its file.",
        "The file with the weights is cut off or belongs to another model: copy it again.";
    TENSOR_TYPE = "E0120", "A tensor has an element type that does not exist or does not fit its use.",
        "Export the model again.";
    TENSOR_DIMS = "E0121", "A tensor's dimensions are negative or too large.", "Export the model again.";
    TENSOR_SIZE = "E0122", "A tensor's data does not have the size that its type and dimensions give.",
        "The model is damaged: copy or export it again.";
    TENSOR_TWICE = "E0123", "A tensor holds its data in more than one place.", "Export the model again.";
    TENSOR_SEGMENT = "E0124", "A tensor is a segment of a larger one.",
        "Join the segments: save the model again with the onnx package.";
    TENSOR_FIELD = "E0125", "A tensor holds its data in a field that its type does not use, or a value that its type cannot hold.",
        "Export the model again.";
    SPARSE = "E0126", "A sparse tensor's indices are malformed.", "Export the model again.";
    OPERATOR = "E0130", "An operator that is not supported.",
        "Export with operators that are supported, or write the operator as others.";
    NOT_CONSTANT = "E0131", "A value that must be known at compile time is not.",
        "Make the value a constant: simplify the model, or fix a dimension with `-D`.";
    ATTR_TWICE = "E0132", "An attribute is given twice.", "Export the model again.";
    ATTR_VALUE = "E0133", "An attribute's value is missing, ambiguous or malformed.",
        "Export the model again.";
    ATTR_TYPE = "E0134", "An attribute has another type than its operator needs.", "Export the model again.";
    ATTR_MISSING = "E0135", "A required attribute is missing.", "Export the model again.";
    ATTR_UNKNOWN = "E0136", "An attribute that its operator does not have in the version that the model uses.",
        "Remove the attribute, or state the operator set that the node was written for.";
    VALUE_TWICE = "E0140", "Two values of one scope have the same name.",
        "Run `onnx.checker` on the model and export it again.";
    VALUE_MISSING = "E0141", "A value is used but nothing produces it.",
        "Run `onnx.checker` on the model and export it again.";
    CYCLE = "E0142", "Nodes depend on each other in a circle.",
        "Run `onnx.checker` on the model and export it again.";
    INITIALIZER_TWICE = "E0143", "Two initializers of one name differ.", "Export the model again.";
    EMPTY_NAME = "E0144", "A name is empty where one is needed.", "Export the model again.";
    OUTPUT_MISSING = "E0145", "A graph or function output is not produced.",
        "Run `onnx.checker` on the model and export it again.";
    FUNCTION_CYCLE = "E0150", "Functions call each other in a circle.", "Export the model again.";
    FUNCTION_SIZE = "E0151", "Expanding the functions gives too many nodes, or too deep ones.",
        "Inline the functions before, or raise the limit with `--limit`.";
    FUNCTION_DEFINITION = "E0152", "A function is defined twice, or its definition contradicts itself.",
        "Export the model again.";
    FUNCTION_CALL = "E0153", "A function is called with more inputs or outputs than it has.",
        "Export the model again.";
    FEATURE = "E0160", "A feature of a supported operator that is not supported.",
        "Export without the feature that the message names.";
    INPUT = "E0161", "A graph input without rank, or of a kind that is not a tensor of numbers.",
        "Give the input a rank and a numeric element type.";
    NODE = "E0162", "A node has too few inputs or outputs, or an input that does not exist.",
        "Run `onnx.checker` on the model and export it again.";
    SHAPE = "E0163", "The shapes or element types do not fit the operator.",
        "Check the model at the node that is named; the notes say where its inputs come from.";
    VALUE = "E0164", "An attribute or a constant input has a value that the operator does not allow.",
        "Check the model at the node that is named.";
    BOUND = "E0165", "A `--dim` bound that is empty or names no symbol.",
        "Use a name and bounds that `autoglm inspect` shows.";
    SURPLUS = "E0166", "A node has more inputs or outputs than its operator.",
        "Run `onnx.checker` on the model and export it again.";
    PASS = "E0301", "A pass of the optimiser failed.", "This is a bug: report it with the model.";
    CALIBRATION = "E0304", "The calibration samples do not fit the model, or it cannot run on them.",
        "Give samples with every input of the model, of its element types and shapes.";
    LOWER_UNSUPPORTED = "E0401", "The runtime has no kernel for a valid operator or element type.",
        "Export with operators and element types that are supported.";
    LOWER_INVALID = "E0402", "The compiler made a graph that it cannot lower.",
        "This is a bug: report it with the model.";
    LOWER_IO = "E0403", "The weights could not be written to the engine.",
        "Check the permissions and the space on the disk.";
    LOWER_TOO_LARGE = "E0404", "A size of the model does not fit 64 bits, or an expression of sizes is too large.",
        "Give the dimensions with `-D`, or use a smaller model.";
    W_ORDER = "W0100", "Nodes were not in topological order.", "Nothing: the nodes were sorted.";
    W_INITIALIZER = "W0101", "An initializer is repeated identically.", "Nothing: one of them is used.";
    W_SHADOW = "W0102", "A subgraph reuses a name of an outer scope.",
        "Nothing: the inner name is used inside.";
    W_ATTRIBUTE = "W0103", "A call passes an attribute that the function does not declare.",
        "Nothing: the attribute is ignored.";
    W_DECLARED = "W0160", "A declared shape contradicts the inferred one.",
        "Nothing: the computed type counts.";
    W_OPSET = "W0161", "An operator set newer than the importer knows.",
        "Check the results with `autoglm verify`.";
    W_UNPROVEN = "W0162", "A declared extent that only the inputs can confirm.",
        "Nothing: it is checked when the engine runs.";
}
