//! The binary `rowbridge`: commands, admin listener, wiring. What databases and webhooks need is in the other crates.

mod admin;
mod cli;
mod commands;
mod failure;
mod load;
mod logging;
mod memory;
mod moment;
mod operate;
mod output;
mod process_metrics;
mod serve;
mod shown;
mod signals;
mod target;

fn main() -> std::process::ExitCode {
    memory::use_one_arena();
    cli::main()
}
