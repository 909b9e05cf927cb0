//! Generates `libs/api/src/generated` from `proto/`. With `--check`, says whether it is up to date.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result};

const OUTPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/generated");
const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../proto");

fn main() -> Result<ExitCode> {
    let fresh = tempfile::tempdir()?;
    generate(fresh.path())?;
    if std::env::args().any(|argument| argument == "--check") {
        return check(fresh.path());
    }
    fs::create_dir_all(OUTPUT)?;
    for entry in fs::read_dir(fresh.path())? {
        let entry = entry?;
        fs::copy(entry.path(), Path::new(OUTPUT).join(entry.file_name()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn generate(out: &Path) -> Result<()> {
    let files = proto_files(&Path::new(PROTO).join("tasker"))?;
    let mut compiler = protox::Compiler::new([PROTO])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .out_dir(out)
        .compile_fds(compiler.file_descriptor_set())?;

    // For reflection and the gateway: encoded by protox, since prost's types would drop our options.
    let mut plain = protox::Compiler::new([PROTO])?;
    plain.include_imports(true).open_files(&files)?;
    fs::write(out.join("descriptors.bin"), plain.encode_file_descriptor_set())?;
    Ok(())
}

/// Every file below `folder`, in a stable order.
fn proto_files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn check(fresh: &Path) -> Result<ExitCode> {
    let mut stale = Vec::new();
    for entry in fs::read_dir(fresh)? {
        let entry = entry?;
        let committed = Path::new(OUTPUT).join(entry.file_name());
        if fs::read(&committed).ok() != Some(fs::read(entry.path())?) {
            stale.push(entry.file_name());
        }
    }
    if stale.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("generated code is stale: {stale:?}; run `cargo run -p tasker-api-generate`");
    Ok(ExitCode::FAILURE)
}
