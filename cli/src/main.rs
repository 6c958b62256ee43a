//! The `autoglm` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    autoglm::shell::main(std::env::args_os().collect(), &autoglm::linked::Linked)
}
