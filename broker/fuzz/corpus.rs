//! Writes the packets to begin with into `corpus/connection`, each behind the ways in which a case can go.

use std::fs;
use std::path::Path;

use broker::fuzzing::samples;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/connection");
    fs::create_dir_all(&folder)?;
    // Before a CONNECT, and after one of MQTT 3.1.1 or 5; see `Harness::one`.
    for (way, how) in [("raw", 0x07_u8), ("v311", 0x0f), ("v5", 0x17)] {
        for (number, packet) in samples().iter().enumerate() {
            let case = [&[how], packet.as_slice()].concat();
            fs::write(folder.join(format!("{way}-{number}")), case)?;
        }
        let all = [vec![how], samples().concat()].concat();
        fs::write(folder.join(format!("{way}-all")), all)?;
    }
    println!("{}", folder.display());
    Ok(())
}
