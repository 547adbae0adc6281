//! `minivmm man` and `minivmm completions`: manual pages and shell completions, made from the definition of the command line.

use std::{fs, io, path::Path};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

/// The sections of the main page that are not in the help: their headings, and their entries.
const SECTIONS: [(&str, &[(&str, &str)]); 2] = [
    (
        "ENVIRONMENT",
        &[
            (
                "MINIVMM_CACHE",
                "The cache folder. It has the guest images, the lab, and the Debian packages that they are made of. A relative path is ignored.",
            ),
            ("XDG_CACHE_HOME", "Without MINIVMM_CACHE, the cache folder is $XDG_CACHE_HOME/minivmm."),
            ("HOME", "Without both, it is $HOME/.cache/minivmm."),
        ],
    ),
    (
        "FILES",
        &[
            ("~/.cache/minivmm/guest/ARCH/NAME", "The guest image NAME: kernel, initramfs, configuration."),
            ("~/.cache/minivmm/lab", "The kernel and the initramfs of the lab."),
            ("~/.cache/minivmm/debian", "Lists of Debian packages, and unpacked packages."),
            ("/usr/share/doc/minivmm", "Documents and examples, which the Debian package installs."),
            (
                "/dev/kvm",
                "The KVM of this host. Where it is absent or cannot run Linux, guests run in the lab.",
            ),
        ],
    ),
];

/// Parts of a command's help that are sections of its page: the beginning of their first line.
const EXAMPLES: &str = "Examples:";
const EXIT_STATUS: &str = "Exit status";

/// Writes the manual pages of `command` and of its subcommands into `folder`: `minivmm.1`, `minivmm-run.1` and so on.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_manual(mut command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    command.build();
    write_pages(&command, true, folder)
}

fn write_pages(command: &Command, is_main: bool, folder: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        write_pages(subcommand, false, folder)?;
    }
    let version = concat!("minivmm ", env!("CARGO_PKG_VERSION"));
    // An empty date in quotation marks: roff counts the arguments.
    let man = Man::new(with_its_lines(command.clone())).date("\"\"").source(version).manual("minivmm");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    // Lines are not stretched: the columns of tables stay.
    Roff::new().control("ad", ["l"]).to_writer(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    if let Some(help) = command.get_after_long_help().or(command.get_after_help()) {
        end_of_help(&mut rest, &help.to_string());
    }
    if is_main {
        for (heading, entries) in SECTIONS {
            rest.control("SH", [heading]);
            for (name, text) in entries {
                rest.control("TP", []).text([bold(*name)]).text([roman(*text)]);
            }
        }
    } else {
        rest.control("SH", ["SEE ALSO"]).text([bold("minivmm"), roman("(1)")]);
    }
    rest.to_writer(&mut page)?;
    fs::write(folder.join(man.get_filename()), page)
}

/// `command` with all lines of its options' help: roff joins lines, except for one that begins with a space. The subcommand `help`
/// has no page.
fn with_its_lines(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let Some(help) = arg.get_long_help().or(arg.get_help()).map(ToString::to_string) else { return arg };
        let mut text = String::new();
        for line in help.lines() {
            // A blank line separates paragraphs.
            if !text.is_empty() {
                text += if line.is_empty() || text.ends_with('\n') { "\n" } else { "\n " };
            }
            text += line;
        }
        arg.long_help(text)
    });
    if command.find_subcommand("help").is_some() {
        command.mut_subcommand("help", |help| help.hide(true))
    } else {
        command
    }
}

/// The end of a command's help, as sections. Its lines stay as they are.
fn end_of_help(page: &mut Roff, help: &str) {
    let mut heading = "";
    let mut begins = true;
    for line in help.lines() {
        if line.is_empty() {
            begins = true;
            continue;
        }
        let next = match line {
            _ if line.starts_with(EXAMPLES) => "EXAMPLES",
            _ if line.starts_with(EXIT_STATUS) => "EXIT STATUS",
            _ if begins => "NOTES",
            _ => heading,
        };
        if next != heading {
            if !heading.is_empty() {
                page.control("fi", []);
            }
            heading = next;
            page.control("SH", [heading]).control("nf", []);
        } else if begins {
            page.control("sp", []);
        }
        begins = false;
        if line != EXAMPLES {
            page.text([roman(line.strip_prefix("Exit status: ").unwrap_or(line))]);
        }
    }
    page.control("fi", []);
}

/// The completions of `command` for `shell`, as a script.
pub fn completions(mut command: Command, shell: Shell) -> String {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    // The names and the help are text.
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write_manual(Cli::command(), &folder.path().join("man1")).unwrap();
        let page = |name: &str| fs::read_to_string(folder.path().join("man1").join(name)).unwrap();
        let main = page("minivmm.1");
        for heading in ["SYNOPSIS", "OPTIONS", "EXAMPLES", "\"EXIT STATUS\"", "ENVIRONMENT", "FILES"] {
            assert!(main.lines().any(|line| line == format!(".SH {heading}")), "{heading} is not in {main}");
        }
        let title = format!(".TH minivmm 1 \"\" \"minivmm {}\" minivmm", env!("CARGO_PKG_VERSION"));
        assert!(main.lines().any(|line| line == title), "{main}");
        assert_eq!(main.matches("\n.SH EXAMPLES").count(), 1);
        assert!(main.contains("MINIVMM_CACHE") && main.contains("\n  minivmm \\-\\-cma 256M "));
        assert!(main.contains("minivmm\\-image(1)") && !main.contains("minivmm\\-help(1)"), "{main}");
        let mut command = Cli::command();
        command.build();
        for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
            let page = page(&format!("minivmm-{}.1", subcommand.get_name()));
            for option in subcommand.get_arguments().filter_map(clap::Arg::get_long) {
                let option = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(page.contains(&option), "{option} is not in {page}");
            }
        }
        // A table in the help of an option keeps its lines.
        assert!(page("minivmm-run.1").contains("\n name=NAME  "), "{}", page("minivmm-run.1"));
        assert!(page("minivmm-image-build.1").contains("newest kernel"));
        assert!(!folder.path().join("man1/minivmm-image-help.1").exists());
        // The folder is a file.
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(write_manual(Cli::command(), &file).is_err());
    }

    #[test]
    fn completions_name_commands_and_options() {
        for shell in Shell::value_variants() {
            let script = completions(Cli::command(), *shell);
            for name in ["minivmm", "experiment", "api-socket"] {
                assert!(script.contains(name), "{name} is not in the completions for {shell}");
            }
        }
    }
}
