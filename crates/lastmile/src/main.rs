//! The `lastmile` binary; see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<lastmile::Lastmile>()
}
