//! A new migration is a change of the code that embeds it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
