//! What pages name exists: options, commands, files, headings, tests. An option means the same in each program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use guest_images::Arch;
use tests::{
    guest,
    harness::{Group, Place, Test},
    programs, tests,
};

use crate::tour;

/// The tests. They call programs that are built for this machine alone.
pub(crate) fn group() -> Group {
    Group {
        name: "pages",
        place: Place::OutsideOfLabs,
        tests: tests![
            options_and_commands_exist,
            links_lead_to_files_and_headings,
            tests_exist,
            an_option_means_the_same_in_each_program
        ],
    }
}

const PROGRAMS: [&str; 7] = ["minivmm", "demo", "fuzz-all", "lab", "scenario", "soak", "verify"];

/// Words with which code in a page begins if its options are those of another program.
const OTHERS: &[&str] = &["UPDATE_PAGES=1", "v4l2-ctl", "cargo test"];

/// Options of minivmm on one architecture only.
const ELSEWHERE: &[&str] = &["--gic"];

/// Names of video devices and sub-devices of the camera's driver, which are no commands.
const NAMES: &[&str] = &["minivmm isp", "minivmm parameters", "minivmm statistics"];

/// Options that take another value in one command than in another, and what they mean.
const SEVERAL_VALUES: &[(&str, &str)] = &[
    ("--device", "a machine gets a device by its name; `ctl` asks a device that has an id"),
    ("--log", "where the lab's log goes; what minivmm logs"),
    ("--out", "what is written: a folder, or the one file of `dtb`"),
    ("--timeout", "a time; the lab takes it in seconds only"),
    ("--window", "a window, by its name or as a new one"),
];

/// The commands of the programs, each with its options and the names of their values.
fn commands() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut commands = BTreeMap::new();
    PROGRAMS.iter().for_each(|program| collect((*program).to_owned(), &mut commands));
    commands
}

/// Adds `command`, a program and a verb of its, and its subcommands.
fn collect(command: String, commands: &mut BTreeMap<String, BTreeMap<String, String>>) {
    let mut words = command.split(' ');
    let program = programs::folder().unwrap().join(words.next().unwrap());
    let output = Command::new(&program).args(words).arg("--help").output().unwrap();
    let help = guest::printed(&output);
    let mut options = BTreeMap::new();
    for line in help.lines().map(str::trim).filter(|line| line.starts_with('-')) {
        let mut words = line.split(' ').skip_while(|word| !word.starts_with("--"));
        if let Some(option) = words.next() {
            let value = words.next().filter(|word| word.starts_with('<')).unwrap_or_default();
            options.insert(option.to_owned(), value.to_owned());
        }
    }
    let verbs = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    for line in verbs.lines().take_while(|line| !line.is_empty()) {
        // Further lines of a description begin farther right.
        let verb = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
        let verb = verb.and_then(|rest| rest.split(' ').next());
        if let Some(verb) = verb.filter(|verb| *verb != "help") {
            collect(format!("{command} {verb}"), commands);
        }
    }
    commands.insert(command, options);
}

/// The pages with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = tour::tracked();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    let read = |page: PathBuf| {
        let text = fs::read_to_string(Path::new(tour::CHECKOUT).join(&page)).unwrap();
        (page, text)
    };
    pages.into_iter().map(read).collect()
}

fn options_and_commands_exist() {
    let commands = commands();
    let options: BTreeSet<&str> = commands.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    let mut wrong = Vec::new();
    let mut count = 0;
    // The history has names of its time.
    for (page, text) in pages().into_iter().filter(|(page, _)| page != Path::new("CHANGELOG.md")) {
        for code in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            if OTHERS.iter().any(|other| code.starts_with(other)) {
                continue;
            }
            let named = code.split([' ', '=', ']']).map(|word| word.trim_start_matches('['));
            for option in named.filter(|word| word.len() > 2 && word.starts_with("--")) {
                count += 1;
                if !options.contains(option) && !ELSEWHERE.contains(&option) {
                    wrong.push(format!("{}: `{code}`: there is no {option}", page.display()));
                }
            }
            let verb = code.strip_prefix("minivmm ").and_then(|rest| rest.split(' ').next());
            let is_verb = |verb: &&str| verb.starts_with(|first: char| first.is_ascii_lowercase());
            if let Some(verb) = verb.filter(is_verb)
                && !NAMES.contains(&code)
                && !commands.contains_key(&format!("minivmm {verb}"))
            {
                wrong.push(format!("{}: `{code}`: minivmm has no {verb}", page.display()));
            }
        }
    }
    assert!(count > 50, "{count} options are in the pages");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The name of a heading in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn links_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (page, text) in pages() {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("https://")) {
            count += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = Path::new(tour::CHECKOUT).join(&page);
            let path = if file.is_empty() { path } else { path.parent().unwrap().join(file) };
            let has_heading =
                |text: String| text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
            let exists =
                path.exists() && (heading.is_empty() || fs::read_to_string(&path).is_ok_and(has_heading));
            if !exists {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(count > 100, "{count} links are in the pages");
    assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
}

/// A page names a test as `group::name`, all tests of a group as `group::`, and several as `group::beginning*`.
fn tests_exist() {
    let groups: Vec<Group> = Arch::ALL.into_iter().flat_map(crate::groups).collect();
    let exists = |group: &str, name: &str| {
        let of_group = groups.iter().filter(|other| other.name == group).flat_map(|group| &group.tests);
        let beginning = name.strip_suffix('*').or(name.is_empty().then_some(""));
        of_group.map(Test::name).any(|test| beginning.map_or(test == name, |start| test.starts_with(start)))
    };
    let mut wrong = Vec::new();
    let mut count = 0;
    for (page, text) in pages().into_iter().filter(|(page, _)| page != Path::new("CHANGELOG.md")) {
        for code in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            if let Some((group, name)) = code.split_once("::")
                && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*-".contains(c))
            {
                count += 1;
                if !exists(group, name) {
                    wrong.push(format!("{}: there is no test {code}", page.display()));
                }
            }
        }
    }
    assert!(count >= 8, "{count} tests are in the pages");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn an_option_means_the_same_in_each_program() {
    let commands = commands();
    let mut values: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (command, options) in &commands {
        for (option, value) in options {
            values.entry(option).or_default().entry(value).or_default().push(command);
        }
    }
    values.retain(|_, values| values.len() > 1);
    SEVERAL_VALUES.iter().for_each(|(option, reason)| {
        assert!(values.remove(option).is_some(), "{option} has one value, not several: {reason}");
    });
    assert!(values.is_empty(), "these options take different values: {values:#?}");
}
