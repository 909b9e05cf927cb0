//! Templates that are registered before the mesh is ready.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tasker_client::Client;
use tracing::info;

/// Registers every YAML file of a folder. Those that are registered already stay as they are.
pub(crate) async fn register(client: &Client, folder: &Path) -> anyhow::Result<()> {
    let files = yaml_files(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for file in &files {
        let name = || file.display().to_string();
        let yaml = fs::read_to_string(file).with_context(name)?;
        let template = client.register_template(yaml).await.with_context(name)?;
        let of = template.r#ref.unwrap_or_default();
        info!("template {}/{} {} is registered", of.namespace, of.name, of.version);
    }
    Ok(())
}

fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "yaml" || it == "yml"));
    files.sort();
    Ok(files)
}
