//! The stable code of each kind of error that this program finds itself; those of the compiler and the runtime are in
//! their own tables. Ranges: IR text (`E02xx`), passes (`E03xx`), reference interpreter (`E07xx`), machine (`E08xx`),
//! command line and files (`E09xx`).

autoglm_runtime::error_codes! {
    IR_TEXT = "E0201", "The IR text does not parse.", "Check the text at the line that the message names.";
    NO_RULE = "E0302", "There is no rewrite rule of that name.",
        "Use `--pass`; the message lists what there is.";
    EGRAPH = "E0303", "The e-graph of a graph cannot be shown, or a rule cannot be applied to it.",
        "Take a part of the model: the message says what is too large or not supported.";
    INTERPRETER = "E0701", "The reference interpreter failed.",
        "Check the inputs; if they fit, the model is wrong at the node that is named.";
    EXCHANGE = "E0702", "Tensors of this element type cannot be exchanged with the program.",
        "Change the type of the input or output in the model.";
    NO_ISA = "E0801", "This machine does not support the instruction set that was asked for.",
        "Use `--isa auto`.";
    BUG = "E0900", "The program panicked or broke one of its own rules.",
        "Report it with the command line and the model.";
    USAGE = "E0902", "The command line is wrong.", "See `autoglm COMMAND --help`.";
    FILE = "E0903", "A file cannot be read or written.",
        "Check the path, the permissions and the space on the disk.";
    NPY_HEADER = "E0910", "The file does not have a valid .npy header.", "Save the array again with numpy.";
    NPY_OBJECTS = "E0911", "The .npy file holds pickled objects.",
        "Save an array of numbers: pickles are never loaded.";
    NPY_TYPE = "E0912", "The .npy file holds elements that no tensor has.",
        "Save the array with a numeric type.";
    TENSOR_SIZE = "E0913", "A tensor has too many axes or is too large.", "Check the extents.";
    TENSOR_BYTES = "E0914", "A file holds fewer or more bytes than its shape needs.",
        "It is cut off, or its shape is wrong: write it again.";
    NPZ = "E0915", "The .npz archive cannot be read or written.",
        "Save the arrays again with numpy, each under a name of its own.";
    PICTURE = "E0916", "The file is not a readable PNG picture.", "Convert it to PNG.";
    PICTURE_SIZE = "E0917", "A picture does not fit the input.",
        "Resize the picture to the extents of the input.";
    PB = "E0918", "The .pb file is not a well-formed tensor.",
        "Write the tensor again with the onnx package.";
    PB_TYPE = "E0919", "The .pb file holds strings, complex numbers or external data.",
        "Give the numbers in the file itself.";
    INPUT_TYPE = "E0920", "An input has another element type than the model wants.",
        "Convert it; types are never changed silently.";
    INPUT_SHAPE = "E0921", "An input has another shape than the model wants.",
        "Reshape it; `autoglm inspect` shows what fits.";
    INPUT_MISSING = "E0922", "An input is not given.", "Give it with `-i NAME=SPEC` or `--data DIR`.";
    DATA_EXTRA = "E0923", "A data folder has more tensors than the model has inputs or outputs.",
        "Remove the file, or use the folder with its own model.";
    EXTENT = "E0924", "The extent of a symbolic dimension is not known.", "Give it with `-D SYM=N`.";
    FILL = "E0925", "A generated value does not fit the element type.",
        "Choose a value or range that the type can hold.";
    TOP = "E0926", "`--top` needs a first output with at least one axis.", "Leave `--top` away.";
    CALIBRATION_DATA = "E0927", "A folder holds no calibration data.",
        "Give one .npz file for each run, or folders with input_0.pb, input_1.pb, ...";
    COSTS = "E0928", "A table of costs is damaged.", "Measure it again with `measure_costs`.";
    ACCURACY = "E0940", "A result differs from its reference by more than allowed.",
        "Find the node with `verify --per-layer`; if the difference is acceptable, raise `--atol` or `--rtol`.";
    REPRODUCIBLE = "E0941", "A second compilation gave other bytes, or failed.",
        "This is a bug: report it with the model.";
    RATCHET = "E0942", "Conformance cases that must pass do not.",
        "See the list of cases and why each fails.";
    OTHER_MODEL = "E0943", "Engine and model do not have the same inputs.",
        "Compare the engine with the model that it was compiled from.";
    NO_CASE = "E0944", "A folder holds no conformance cases, or a case no data.",
        "Give a folder whose folders hold model.onnx and test_data_set_0.";
    HELD_OUT = "E0945", "A gate of a compressed engine does not hold on held-out data.",
        "Calibrate with more data of the kind that the engine will meet, or with narrower gates.";
}
