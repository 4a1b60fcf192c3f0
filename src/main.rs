//! The program `latchkey`: hands argv to the command line and ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    latchkey::cli::run(std::env::args_os())
}
