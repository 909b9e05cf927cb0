//! Tells whoever waits for it where the gateway is.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

/// Writes `url` and a line feed into `file`, which may be a FIFO that somebody reads.
///
/// Anything else is there with all of its content, or not at all.
pub(crate) async fn write(file: PathBuf, url: String) -> io::Result<()> {
    // A FIFO without a reader blocks.
    let written = tokio::task::spawn_blocking(move || write_line(&file, &format!("{url}\n")));
    written.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn write_line(file: &Path, line: &str) -> io::Result<()> {
    if fs::metadata(file).is_ok_and(|it| it.file_type().is_fifo()) {
        return OpenOptions::new().write(true).open(file)?.write_all(line.as_bytes());
    }
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, line)?;
    fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[tokio::test]
    async fn a_file_and_a_fifo_get_the_url_and_a_line_feed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        write(file.clone(), "http://127.0.0.1:1".to_owned()).await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "http://127.0.0.1:1\n");

        let fifo = folder.path().join("a fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let reader = tokio::task::spawn_blocking({
            let fifo = fifo.clone();
            move || fs::read_to_string(fifo)
        });
        write(fifo, "http://127.0.0.1:2".to_owned()).await.unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), "http://127.0.0.1:2\n");
    }
}
