//! The cluster on disk: made once, configured before each start.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Settings, address::Address, binaries::Binaries, error::Doing, owner::Owner};

/// The superuser of every private cluster.
pub(crate) const USER: &str = "tasker";

/// What we add to the cluster's folder.
const PASSWORD: &str = "tasker.password";
const CONFIGURATION: &str = "tasker.conf";

/// Makes the cluster in `data_dir` if there is none. A half-made one is never left there.
pub(crate) fn make(
    data_dir: &Path,
    settings: &Settings,
    binaries: &Binaries,
    owner: Owner,
) -> Result<(), Error> {
    if data_dir.join("PG_VERSION").exists() {
        return Ok(());
    }
    let content = fs::read_dir(data_dir).ok().and_then(|mut entries| entries.next());
    if content.is_some() {
        return Err(Error::NotACluster { data_dir: data_dir.into() });
    }
    let (new, password) = (beside(data_dir, ".new"), beside(data_dir, ".password"));
    if new.exists() {
        fs::remove_dir_all(&new).doing("remove", &new)?;
    }
    fs::create_dir_all(&new).doing("make", &new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).doing("close", &new)?;
    owner.take(&new).doing("hand over", &new)?;
    write_password(&password, owner)?;

    let mut initdb = owner.command(binaries.program("initdb"));
    initdb.args([
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
    ]);
    initdb.arg(format!("--username={USER}")).arg("--pwfile").arg(&password).arg("-D").arg(&new);
    if settings.forgets_on_power_loss() {
        initdb.arg("--no-sync");
    }
    run("initdb", initdb)?;

    fs::rename(&password, new.join(PASSWORD)).doing("move", &password)?;
    let include = format!("include_if_exists '{CONFIGURATION}'\n");
    let own = new.join("postgresql.conf");
    let mut file = fs::OpenOptions::new().append(true).open(&own).doing("open", &own)?;
    file.write_all(include.as_bytes()).doing("write", &own)?;
    fs::rename(&new, data_dir).doing("move into place", data_dir)
}

/// Writes the settings of the next start.
pub(crate) fn configure(
    data_dir: &Path,
    settings: &Settings,
    address: &Address,
    owner: Owner,
) -> Result<(), Error> {
    // A list of folders, so its one item is quoted twice: for the list, and for the file.
    let socket_dir = address.socket_dir.display();
    let socket_dir = format!("\"{}\"", socket_dir.to_string().replace('"', "\"\""));
    let ours = [
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", address.port.to_string()),
        ("unix_socket_directories", socket_dir),
        ("unix_socket_permissions", "0777".to_owned()),
    ];
    let mut text =
        String::from("# Written at each start; change the program's settings instead.\n");
    let chosen = settings.settings.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in chosen.chain(ours.iter().map(|(name, value)| (*name, value))) {
        let value = value.replace('\'', "''");
        writeln!(text, "{name} = '{value}'").expect("writing to a string cannot fail");
    }
    let path = data_dir.join(CONFIGURATION);
    let new = beside(&path, ".new");
    fs::write(&new, text).doing("write", &new)?;
    owner.take(&new).doing("hand over", &new)?;
    fs::rename(&new, &path).doing("write", &path)
}

/// The password of [`USER`] over TCP.
pub(crate) fn password(data_dir: &Path) -> Result<String, Error> {
    let path = data_dir.join(PASSWORD);
    fs::read_to_string(&path).doing("read", &path)
}

/// Runs a program to its end, or says what it said.
pub(crate) fn run(program: &'static str, mut command: Command) -> Result<(), Error> {
    let output = command.output().doing("run", command.get_program())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let output = String::from_utf8_lossy(&said).trim().to_owned();
    Err(Error::Failed { program, output })
}

/// A password that only the owner of the cluster, and root, can read.
fn write_password(path: &Path, owner: Owner) -> Result<(), Error> {
    let secret = format!("{:032x}", rand::random::<u128>());
    if path.exists() {
        fs::remove_file(path).doing("remove", path)?;
    }
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .doing("write", path)?;
    file.write_all(secret.as_bytes()).doing("write", path)?;
    owner.take(path).doing("hand over", path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
