//! Compiled functions by what was compiled.

use super::{CodeProvider, Declined, Function, LoopSpec};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Element-instructions of a loop nest below which compiling it does not pay.
const WORTH: usize = 16 << 10;

/// Most functions that are kept; further loops are interpreted.
const MAX_FUNCTIONS: usize = 4096;

/// How many loops were compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeCounts {
    /// Distinct loops that were compiled.
    pub functions: usize,
    /// Distinct loops that the provider declined.
    pub declined: usize,
    /// Bytes of machine code.
    pub code_bytes: usize,
}

/// A provider with the functions it has made, one for each distinct [`LoopSpec`].
#[derive(Debug)]
pub struct CodeCache {
    provider: Arc<dyn CodeProvider>,
    worth: usize,
    functions: Mutex<HashMap<LoopSpec, Result<Arc<Function>, Declined>>>,
}

impl CodeCache {
    /// An empty cache of what `provider` makes of the loops that are worth it.
    pub fn new(provider: Arc<dyn CodeProvider>) -> Self {
        Self { provider, worth: WORTH, functions: Mutex::default() }
    }

    /// An empty cache that also compiles loops over few elements.
    pub fn eager(provider: Arc<dyn CodeProvider>) -> Self {
        Self { worth: 0, ..Self::new(provider) }
    }

    /// Whether a loop nest that executes `work` element-instructions is worth compiling.
    pub fn pays_for(&self, work: usize) -> bool {
        work >= self.worth
    }

    /// The function for `spec`, made now if it is the first of its kind.
    pub fn get(&self, spec: LoopSpec) -> Result<Arc<Function>, Declined> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = functions.get(&spec) {
            return known.clone();
        }
        if functions.len() >= MAX_FUNCTIONS {
            return Err(Declined("too many different loops"));
        }
        let made = self.provider.compile(&spec).and_then(|code| Function::publish(&code).map(Arc::new));
        functions.insert(spec, made.clone());
        made
    }

    /// How many loops were compiled so far.
    pub fn counts(&self) -> CodeCounts {
        let functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let made = functions.values().flatten();
        CodeCounts {
            functions: made.clone().count(),
            declined: functions.len() - made.clone().count(),
            code_bytes: made.map(|f| f.code_bytes()).sum(),
        }
    }
}
