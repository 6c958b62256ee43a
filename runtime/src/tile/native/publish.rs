//! Pages of machine code: written once, then executable and never writable again.

use super::{Declined, Frame};

/// A function in pages of its own, which live as long as it does.
#[derive(Debug)]
pub struct Function {
    pages: memmap2::Mmap,
    code_bytes: usize,
}

impl Function {
    /// Copies machine code into fresh pages and makes them executable. Pages are never writable and executable at once.
    ///
    /// Declines where the instruction cache would have to be made to notice new code, which only x86-64 does by itself,
    /// and where the operating system forbids executable memory.
    pub fn publish(code: &[u8]) -> Result<Self, Declined> {
        if !cfg!(target_arch = "x86_64") {
            return Err(Declined("no compiled loops on this architecture"));
        }
        if code.is_empty() {
            return Err(Declined("no code"));
        }
        let refused = |_| Declined("the system gives no executable memory");
        let mut pages = memmap2::MmapMut::map_anon(code.len()).map_err(refused)?;
        pages[..code.len()].copy_from_slice(code);
        let pages = pages.make_exec().map_err(refused)?;
        Ok(Self { pages, code_bytes: code.len() })
    }

    /// Length of the code.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    /// Runs it.
    ///
    /// # Safety
    /// `frame` fits the spec that the code was made for: every element that the spec's loads and stores visit over its
    /// rows and columns may be read or written, its arrays cover the operands, loop dimensions and folds of the spec, and
    /// the processor has the spec's instruction set.
    pub unsafe fn call(&self, frame: &Frame) {
        let entry = self.pages.as_ptr();
        // SAFETY: the pages hold code that a `CodeProvider` returned, which by its contract is such a function.
        unsafe {
            let function: extern "C" fn(*const Frame) = std::mem::transmute(entry);
            function(frame);
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn code_runs_from_its_own_pages() {
        // mov rax, [rdi + 48]; mov qword ptr [rax], 42; ret (the System V convention)
        let code = [0x48, 0x8B, 0x47, 0x30, 0x48, 0xC7, 0x00, 42, 0, 0, 0, 0xC3];
        assert_eq!(super::super::frame::STATE, 0x30);
        let function = Function::publish(&code).unwrap();
        let mut state = [0u64];
        let null = std::ptr::null();
        let frame = Frame {
            rows: 1,
            cols: 1,
            bases: std::ptr::null(),
            row_steps: null,
            col_steps: null,
            index: null,
            state: state.as_mut_ptr(),
            helpers: std::ptr::null(),
        };
        if cfg!(not(windows)) {
            // SAFETY: the code writes the first accumulator and nothing else.
            unsafe { function.call(&frame) };
            assert_eq!(state, [42]);
        }
    }

    #[test]
    fn no_page_is_writable_and_executable() {
        let function = Function::publish(&[0xC3]).unwrap();
        let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
        let here = function.pages.as_ptr().addr();
        let line = maps.lines().find(|line| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let address = |s| usize::from_str_radix(s, 16).unwrap();
            (address(start)..address(end)).contains(&here)
        });
        assert_eq!(line.unwrap().split(' ').nth(1), Some("r-xp"));
    }

    #[test]
    fn nothing_is_no_function() {
        assert!(Function::publish(&[]).is_err());
    }
}
