//! The door: reads the verb and hands over.

use std::process::ExitCode;

/// Measured: less CPU and half the memory per idle connection.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    smartlink::cli::run(std::env::args_os())
}
