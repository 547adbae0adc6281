//! What a machine uses on the host by name: the folder and the files that it writes to, and the files of its devices.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{config::Config, error::MachineError};

/// Prepares the folder and the file that the machine of `config` writes to on the host. Returns the console log's file, if it has
/// one.
///
/// # Errors
/// The path that cannot be written to.
pub fn prepare_places(config: &Config) -> Result<Option<File>, MachineError> {
    if let Some(path) = &config.out {
        check_writable(path).map_err(|source| MachineError::Out { path: path.clone(), source })?;
    }
    let create = |path: &PathBuf| {
        File::create(path).map_err(|source| MachineError::ConsoleLog { path: path.clone(), source })
    };
    config.console_log.as_ref().map(create).transpose()
}

/// Checks the files that the devices of `config` need, and keeps others from them until what is returned is dropped. Without it the
/// machine can be built.
///
/// # Errors
/// The first file that cannot be used.
pub fn reserve_files(config: &Config) -> Result<Vec<Box<dyn Send>>, MachineError> {
    let reserved = config.devices.iter().filter_map(|request| {
        let kind = request.registration.name;
        request.spec.reserve().map_err(|reason| MachineError::File { kind, reason }).transpose()
    });
    reserved.collect()
}

/// Makes the folder unless it exists, and a file without a name in it: a guest may have left any name there.
fn check_writable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder).map(drop)
}
