//! How much of anything a model file may hold.

/// Bounds on what a model may ask of the reader. Each can be raised by the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes in all graphs and functions of the file.
    pub nodes: u64,
    /// Initializers of all graphs, sparse ones included.
    pub initializers: u64,
    /// Attributes of all nodes and functions.
    pub attributes: u64,
    /// Model-local functions.
    pub functions: u64,
    /// Bytes of one name.
    pub name_bytes: u64,
    /// Bytes of documentation and metadata together.
    pub metadata_bytes: u64,
    /// Nesting of messages. A subgraph takes three levels; the protobuf decoder itself stops at 100.
    pub depth: usize,
    /// Memory that the decoded messages take, by an estimate, with payloads that stay in the file not counted.
    pub decoded_bytes: u64,
    /// Bytes of one tensor.
    pub tensor_bytes: u64,
    /// Bytes of one sparse tensor once it is made dense.
    pub sparse_bytes: u64,
    /// Whether external data may be reached through symbolic links and files with several hard links. With it the
    /// user vouches for the whole directory: a link can lead anywhere.
    pub allow_links: bool,
    /// Whether files are read into memory instead of mapped, for directories that others may write to meanwhile.
    pub copy_files: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 5_000_000,
            initializers: 1_000_000,
            attributes: 20_000_000,
            functions: 10_000,
            name_bytes: 64 << 10,
            metadata_bytes: 256 << 20,
            depth: 64,
            decoded_bytes: 8 << 30,
            tensor_bytes: 1 << 40,
            sparse_bytes: 1 << 30,
            allow_links: false,
            copy_files: false,
        }
    }
}
