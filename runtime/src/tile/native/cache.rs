//! Compiled functions by what was compiled.

use super::{CodeProvider, Declined, Function, LoopSpec};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most loops that a provider is asked for; further ones are interpreted.
const MAX_FUNCTIONS: usize = 4096;

/// How many loops were compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeCounts {
    /// Distinct loops that were compiled.
    pub functions: usize,
    /// Distinct loops that a provider was asked for and declined, summed over the providers.
    pub declined: usize,
    /// Bytes of machine code.
    pub code_bytes: usize,
}

/// A provider with what it has made, once for each distinct [`LoopSpec`].
#[derive(Debug)]
struct Source {
    provider: Arc<dyn CodeProvider>,
    functions: Mutex<HashMap<LoopSpec, Result<Arc<Function>, Declined>>>,
}

/// Providers in the order in which they are asked, with the functions that they have made.
#[derive(Debug)]
pub struct CodeCache {
    sources: Vec<Source>,
    eager: bool,
}

impl CodeCache {
    /// An empty cache of what `providers` make of the loops that are worth it.
    pub fn new(providers: Vec<Arc<dyn CodeProvider>>) -> Self {
        let source = |provider| Source { provider, functions: Mutex::default() };
        Self { sources: providers.into_iter().map(source).collect(), eager: false }
    }

    /// An empty cache that also compiles loops over few elements.
    pub fn eager(provider: Arc<dyn CodeProvider>) -> Self {
        Self { eager: true, ..Self::new(vec![provider]) }
    }

    /// The function for `spec`, made now if it is the first of its kind; `work` is how many element-instructions one run
    /// executes in loops of this spec. Which provider makes it, and whether any does, depends on nothing else: not on
    /// what is in the cache, so that equal shapes give equal bits whatever ran before.
    pub fn get(&self, spec: &LoopSpec, work: u64) -> Result<Arc<Function>, Declined> {
        let mut why = Declined("no compiler");
        for source in &self.sources {
            if !self.eager && work < source.provider.worth(spec) {
                why = Declined("too little work");
                continue;
            }
            match source.get(spec) {
                Ok(function) => return Ok(function),
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }

    /// How many loops were compiled so far.
    pub fn counts(&self) -> CodeCounts {
        let mut counts = CodeCounts::default();
        for source in &self.sources {
            let functions = source.functions.lock().unwrap_or_else(PoisonError::into_inner);
            let made = functions.values().flatten();
            counts.functions += made.clone().count();
            counts.declined += functions.len() - made.clone().count();
            counts.code_bytes += made.map(|f| f.code_bytes()).sum::<usize>();
        }
        counts
    }
}

impl Source {
    fn get(&self, spec: &LoopSpec) -> Result<Arc<Function>, Declined> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = functions.get(spec) {
            return known.clone();
        }
        if functions.len() >= MAX_FUNCTIONS {
            return Err(Declined("too many different loops"));
        }
        let made = self.provider.compile(spec).and_then(|code| Function::publish(&code).map(Arc::new));
        functions.insert(spec.clone(), made.clone());
        made
    }
}
