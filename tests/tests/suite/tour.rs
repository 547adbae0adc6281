//! The commands that pages print in blocks of `sh`, run as printed and in their order by `tests/tour.sh`.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use guest_images::{Arch, Kind, cache};
use tempfile::TempDir;
use tests::{
    guest,
    harness::{Group, Place, Test},
    programs,
};

/// The tests.
pub(crate) fn group() -> Group {
    let test = Test::new("every_command_of_the_pages_works", every_command_of_the_pages_works);
    Group { name: "tour", place: Place::Linux(vec![Kind::DEFAULT]), tests: vec![test.only_on(Arch::host())] }
}

pub(crate) const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The page whose commands are run by own_driver.rs, outside of labs, because they compile a kernel module.
pub(crate) const YOUR_DRIVER: &str = "devices/src/camera/YOUR-DRIVER.md";

/// Commands that are only parsed, by their beginnings, and the reason.
const ONLY_PARSED: &[(&str, &str)] = &[
    ("cargo verify", "it runs this test"),
    ("cargo fuzz-all", "it builds the fuzz targets"),
    ("cargo soak", "it runs for an hour; soak:: runs 40 machines"),
    ("cargo demo --", "it builds another image"),
    ("minivmm image build 7.2", "it builds another image"),
    ("minivmm image build debian", "it builds another image"),
    ("minivmm image remove 7.2", "this image is not built"),
    ("minivmm --image 7.2", "it boots another image"),
    ("cargo lab --arch aarch64", "lab:: boots this lab"),
    ("minivmm reproduce", "reproduce:: boots its guests"),
    ("cargo run -q -p tests --bin scenario -- run", "scenarios:: runs all"),
    (
        "minivmm experiment run --jobs 1 tests/experiments/",
        "experiments:: runs those that `--thorough` does not name, and `--thorough` all",
    ),
];

/// The languages of blocks. A block of commands has to be `sh`, so that they run.
const LANGUAGES: &[&str] = &["sh", "", "dts", "rust", "text", "toml"];

/// A folder with the files of a fresh clone, where `cargo` runs programs that are built already.
pub(crate) struct FreshClone {
    folder: TempDir,
}

impl FreshClone {
    pub(crate) fn new() -> Self {
        let clone = Self { folder: tempfile::tempdir().unwrap() };
        for file in tracked() {
            let path = clone.path(&file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let source = Path::new(CHECKOUT).join(&file);
            // minivmm follows no link in the folder of a board.
            if Path::new(&file).starts_with("tests/boards") {
                fs::copy(source, path).unwrap();
            } else {
                symlink(source, path).unwrap();
            }
        }
        // The demo's pictures are in cargo's target folder, where the README's later commands look for one.
        symlink(programs::folder().unwrap().parent().unwrap(), clone.path("target")).unwrap();
        let cargo = clone.folder.path().join("cargo");
        fs::write(&cargo, include_str!("tour-cargo.sh")).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(clone.commands(), "").unwrap();
        clone
    }

    /// A file of the clone.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join("minivmm").join(name)
    }

    /// The file with the commands that were typed.
    fn commands(&self) -> PathBuf {
        self.folder.path().join("commands")
    }

    /// Runs the commands of `pages`.
    ///
    /// # Panics
    /// If one of them fails.
    pub(crate) fn tour<S: AsRef<OsStr>>(&self, pages: &[S]) -> Output {
        let folder = self.folder.path();
        let path = env::var_os("PATH").unwrap_or_default();
        let path = [folder.to_owned()].into_iter().chain(env::split_paths(&path));
        let only_parsed: Vec<&str> = ONLY_PARSED.iter().map(|(beginning, _)| *beginning).collect();
        let mut tour = Command::new(self.path("tests/tour.sh"));
        tour.args(pages)
            .env("PATH", env::join_paths(path).unwrap())
            .env("PROGRAMS", programs::folder().unwrap())
            .env("SUITE", env::current_exe().unwrap())
            .env("ONLY_PARSED", only_parsed.join("\n"))
            .env("COMMANDS", self.commands())
            // What a page installs for its reader stays in the clone's folder; the images are the user's.
            .env("HOME", folder)
            .env("MINIVMM_CACHE", cache::cache_dir().unwrap())
            // The programs find the others built.
            .env_remove("CARGO");
        let output = guest::run_within(&mut tour, guest::LIMIT * 4);
        let (stdout, stderr) = (guest::text(&output.stdout), guest::text(&output.stderr));
        assert!(output.status.success(), "{stdout}\n{stderr}");
        output
    }
}

/// The files that git tracks.
pub(crate) fn tracked() -> Vec<PathBuf> {
    // In a lab they belong to someone else.
    let git = Command::new("git").args(["-c", "safe.directory=*", "-C", CHECKOUT, "ls-files", "-z"]).output();
    let git = git.expect("git lists the files of a fresh clone");
    assert!(git.status.success(), "{}", guest::text(&git.stderr));
    let names = git.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| OsStr::from_bytes(name).into()).collect()
}

/// The pages that have commands, the README first, as others build on what it does.
fn pages() -> Vec<PathBuf> {
    let mut pages = tracked();
    pages.retain(|page| {
        if page.extension().is_none_or(|extension| extension != "md") || page == Path::new(YOUR_DRIVER) {
            return false;
        }
        let text = fs::read_to_string(Path::new(CHECKOUT).join(page)).unwrap();
        let fences = text.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        let languages: Vec<&str> = fences.step_by(2).collect();
        for language in &languages {
            assert!(LANGUAGES.contains(language), "{}: a block of {language:?}", page.display());
        }
        languages.contains(&"sh")
    });
    pages.sort_by_key(|page| (page != Path::new("README.md"), page.clone()));
    pages
}

fn every_command_of_the_pages_works() {
    let pages = pages();
    println!("{pages:?}");
    let clone = FreshClone::new();
    clone.tour(&pages);
    let typed = fs::read_to_string(clone.commands()).unwrap();
    for (beginning, _) in ONLY_PARSED {
        assert!(typed.lines().any(|line| line.starts_with(beginning)), "no page has {beginning} any more");
    }
}
