//! The style of everything that people read: no file has a phrase of the table [`PHRASES`].

use std::{
    fs,
    path::{Path, PathBuf},
};

use tests::{
    harness::{Group, Place, Test},
    tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    let tests = tests![no_file_has_a_phrase_of_the_table, phrases_are_found_where_they_are];
    let tests = tests.into_iter().map(Test::the_same_everywhere).collect();
    Group { name: "words", place: Place::Anywhere, tests }
}

/// Phrases that readers had to read twice, and what to write instead. `*` stands for any one word. A phrase that begins with a
/// capital letter is looked for at the beginning of a sentence only. Each phrase is chosen so that no good sentence has it.
const PHRASES: &[(&str, &str)] = &[
    ("Of", "put the subject first: \"Each frame has ...\", not \"Of each frame ...\""),
    ("a mistake on purpose", "a deliberate mistake"),
    ("as it is to be", "say what is expected"),
    ("asks nothing", "say what it does: passwordless sudo"),
    ("be had", "say what is missing or invalid, and what is valid"),
    ("faults on purpose", "fault injection"),
    ("go wrong on purpose", "fault injection"),
    ("goes wrong on purpose", "fault injection"),
    ("handed back", "returned"),
    ("in a folder that can", "a writable folder"),
    ("is no request", "invalid request"),
    ("is nothing that", "say what it is, or what is valid"),
    ("is somebody", "name the owner"),
    ("leave * away", "omit"),
    ("leave it away", "omit it"),
    ("make this anew", "regenerate"),
    ("mistakes on purpose", "deliberate mistakes"),
    ("nobody's", "say what is missing: an owner, a reader, a handler"),
    ("of which there are", "there are ..., and each ..."),
    ("one behind the other", "one after the other"),
    ("somebody's", "name the owner"),
    ("such as there are", "the existing ones"),
    ("there are so many", "enough"),
    ("what comes of it", "the result"),
    ("whoever", "name the program or the person"),
];

/// The endings of the files to read.
const ENDINGS: &[&str] =
    &[".md", ".rs", ".toml", ".c", ".h", ".S", ".sh", ".yaml", ".config", ".cma", "/init", "/run", "/Kbuild"];

/// Files and folders that are not ours to write, and this file, which has the phrases.
const LEFT_OUT: &[&str] = &["target", ".git", "Cargo.lock", "words.rs"];

fn no_file_has_a_phrase_of_the_table() {
    let checkout = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
    let mut files = Vec::new();
    collect(&checkout, &mut files);
    assert!(files.len() > 300, "these are the files of the checkout: {files:?}");
    let mut found = Vec::new();
    for file in files {
        // Data, such as recorded device trees, is not text.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let name = file.strip_prefix(&checkout).unwrap().display();
        found.extend(
            phrases(&text)
                .into_iter()
                .map(|(line, words, instead)| format!("{name}:{line}: \"{words}\"; better: {instead}")),
        );
    }
    assert!(found.is_empty(), "{} sentences to write anew:\n{}", found.len(), found.join("\n"));
}

/// The files below `folder` that people read.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().unwrap();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) || kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            collect(&path, files);
        } else if ENDINGS.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
            files.push(path);
        }
    }
}

/// A word of a text.
struct Word<'a> {
    text: &'a str,
    /// Its line, from 1.
    line: usize,
    begins_sentence: bool,
    ends_sentence: bool,
}

/// The words of a text. A comment goes on over lines, without the marks at their beginnings.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words: Vec<Word<'_>> = Vec::new();
    let mut was_prose = false;
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        let prose = content.trim_start_matches(['/', '!', '*', '#', '-', '|']).trim_start();
        let is_prose = prose.len() < content.len() || !content.ends_with([';', '{', '}', ',', '(', ')']);
        // A comment after code, and code after a comment, begin anew.
        let mut begins = prose.is_empty() || is_prose != was_prose;
        was_prose = is_prose && !prose.is_empty();
        if let (true, Some(last)) = (begins, words.last_mut()) {
            last.ends_sentence = true;
        }
        for part in prose.split_whitespace() {
            let word = part.trim_matches(|c: char| !c.is_alphanumeric());
            if word.is_empty() {
                // A mark between words, such as the border of a table's cell.
                begins |= part == "|" || part == "//" || part == "/*";
                continue;
            }
            let ends = part.trim_end_matches(['"', '`', ')', '*', '\\']).ends_with(['.', ':', ';', '!', '?']);
            let begins_sentence = begins || words.last().is_none_or(|last| last.ends_sentence);
            words.push(Word { text: word, line, begins_sentence, ends_sentence: ends });
            begins = false;
        }
    }
    words
}

/// The phrases of the table in a text: the line, the words, and what to write instead.
fn phrases(text: &str) -> Vec<(usize, String, &'static str)> {
    let words = words(text);
    let mut found = Vec::new();
    for at in 0..words.len() {
        for (phrase, instead) in PHRASES {
            let length = phrase.split(' ').count();
            let Some(part) = words.get(at..at + length) else { continue };
            let at_beginning = phrase.starts_with(char::is_uppercase);
            let is_same = |(word, wanted): (&Word<'_>, &str)| {
                wanted == "*"
                    || if at_beginning { word.text == wanted } else { word.text.eq_ignore_ascii_case(wanted) }
            };
            let is_one_sentence = part[..length - 1].iter().all(|word| !word.ends_sentence);
            if part.iter().zip(phrase.split(' ')).all(is_same)
                && is_one_sentence
                && (!at_beginning || part[0].begins_sentence && !part[0].ends_sentence)
            {
                let context = &words[at..words.len().min(at + length + 4)];
                let context: Vec<_> = context.iter().map(|word| word.text).collect();
                found.push((part[0].line, context.join(" "), *instead));
            }
        }
    }
    found
}

fn phrases_are_found_where_they_are() {
    let lines = |text: &str| phrases(text).into_iter().map(|(line, ..)| line).collect::<Vec<_>>();
    assert_eq!(lines("0 CPUs cannot be had"), [1]);
    // Over two lines of a comment, and in a message over two lines.
    assert_eq!(lines("fn f() {\n    // The size cannot\n    // be had here.\n}"), [3]);
    assert_eq!(lines("#[error(\"0 CPUs cannot be \\\n    had; give more\")]"), [1]);
    assert_eq!(lines("Choose another base, or leave --cma away."), [1]);
    assert_eq!(lines("/// Of each frame the first line.\nfn f() {}"), [1]);
    assert_eq!(lines("| `x` | Of channel 0 alone. |"), [1]);
    assert_eq!(lines("It is short. Of these it takes none."), [1]);
    // A part of a sentence, a name, and two sentences.
    assert_eq!(lines("the number Of things"), [0; 0]);
    assert_eq!(lines("let of = be; had(of);"), [0; 0]);
    assert_eq!(lines("That is what it can be. Had it been more, it would fail."), [0; 0]);
    assert_eq!(lines("--cpus must be 1 to 254; omit --cma for a guest without a window"), [0; 0]);
}
