//! Made-up crates with and without cycles, and what the parser must not take for an import.

use super::*;

/// The cycles of a crate with these files.
fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> =
        files.iter().map(|(path, text)| Source::new("made/src/", path, (*text).to_owned())).collect();
    cycles(&sources)
}

/// The paths of a text.
fn paths_of(text: &str) -> Vec<String> {
    paths(text).into_iter().map(|path| path.segments.join("::")).collect()
}

#[test]
fn a_cycle_is_named_with_its_files_and_lines() {
    let found = cycles_of(&[
        ("lib.rs", "mod one;\nmod two;\nmod three;\n"),
        ("one.rs", "//! One.\n\nuse crate::two::Two;\n"),
        ("two.rs", "fn two() {\n    super::three::go();\n}\n"),
        ("three.rs", "use super::{\n    one::{self, One},\n};\n"),
    ]);
    let expected = "made/src/one.rs:3 imports made/src/two.rs, made/src/two.rs:2 imports made/src/three.rs, \
                    made/src/three.rs:2 imports made/src/one.rs";
    assert_eq!(found, [expected]);
}

#[test]
fn cycles_without_a_common_file_are_named_each() {
    let found = cycles_of(&[
        ("lib.rs", ""),
        ("a.rs", "use crate::b;"),
        ("b.rs", "use crate::a;"),
        ("c.rs", "use crate::d::D;"),
        ("d.rs", "use crate::{b, c::C};"),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("a.rs:1 imports made/src/b.rs") && found[1].contains("c.rs:1 imports"),
        "{found:?}"
    );
}

#[test]
fn a_child_may_import_its_sibling_and_not_what_its_parent_re_exports() {
    let parent = ("room/mod.rs", "mod door;\nmod wall;\npub use door::Door;\npub use wall::Wall;\n");
    let door = |import| {
        cycles_of(&[("lib.rs", "pub mod room;"), parent, ("room/wall.rs", ""), ("room/door.rs", import)])
    };
    assert_eq!(door("use super::wall::Wall;"), [""; 0]);
    assert_eq!(door("use crate::room::wall;"), [""; 0]);
    for import in ["use super::Wall;", "use super::*;", "use crate::room::Wall;", "fn f(_: super::Wall) {}"] {
        let found = door(import);
        let expected = "made/src/room/door.rs:1 imports made/src/room/mod.rs";
        assert!(found.len() == 1 && found[0].contains(expected), "{import}: {found:?}");
    }
}

#[test]
fn a_module_in_a_file_is_that_file() {
    let with = |inner| {
        let a =
            format!("mod inner {{ {inner} mod deeper {{}} fn f() {{ loop {{}} }} }}\n{}", "use crate::b;");
        cycles_of(&[("lib.rs", ""), ("a.rs", &a), ("b.rs", "")])
    };
    assert_eq!(with("use super::*;"), [""; 0]);
    let back = [
        ("lib.rs", ""),
        ("a.rs", "pub mod inner { pub fn f() {} }\nuse crate::b;"),
        ("b.rs", "use crate::a::inner::f;"),
    ];
    assert_eq!(cycles_of(&back).len(), 1);
    // Behind a module the levels are those of the file again.
    let after = [
        ("lib.rs", ""),
        ("x/mod.rs", "use crate::x::y;"),
        ("x/y.rs", "mod inner { mod deeper { use super::super::super::z; } }\nuse super::z;"),
        ("x/z.rs", ""),
    ];
    assert_eq!(cycles_of(&after), [""; 0]);
}

#[test]
fn paths_are_read_wherever_they_are() {
    let text = "
        pub(crate) use a::{b::{self, c as d}, e::*, f};
        use ::extern_crate::{g::h};
        pub(in crate::hidden) struct S(pub crate::i::J);
        fn f<'a>(x: &'a self::k::L) -> Vec<m::N> { <T as o::P>::q(); let c = '\"'; crate::r::s!(t::u); w }";
    let expected = [
        "a::b",
        "a::b::c",
        "a::e",
        "a::f",
        "crate::i::J",
        "self::k::L",
        "m::N",
        "o::P",
        "crate::r::s",
        "t::u",
    ];
    assert_eq!(paths_of(text), expected);
}

#[test]
fn comments_literals_tests_and_bodies_of_macros_import_nothing() {
    for text in [
        "// use crate::b;\n/* use crate::b; /* crate::b::c */ crate::b */\n//! [`crate::b`]\n/// [`b`](super::b::c)\n",
        r####"const A: &str = "use crate::b; \" crate::b"; const B: &str = r##"crate::b "# crate::b"##;"####,
        r##"const A: &[u8] = b"crate::b"; const B: &[u8] = br#"crate::b"#; const C: char = '"'; const D: u8 = b'\'';"##,
        "#[cfg(test)]\nmod tests {\n    use super::*;\n    fn f() { crate::b::c(); }\n}\n",
        "#[cfg(test)]\nuse crate::b::{c, d};\n#[cfg(all(test, unix))]\n#[doc(hidden)]\npub fn f() { crate::b::c() }\n",
        "macro_rules! m { () => { $crate::b::c() }; }",
        "mod b;",
    ] {
        assert_eq!(paths_of(text), [""; 0], "{text}");
    }
    assert_eq!(paths_of("#[cfg(test)]\nuse crate::b;\nuse crate::c::d;"), ["crate::c::d"]);
    assert_eq!(paths_of("#[cfg(not(test))]\nuse crate::b::c;"), ["crate::b::c"]);
}

#[test]
fn any_text_is_read_to_its_end() {
    for text in [
        "use a::{b",
        "use {",
        "#[cfg(test)]",
        "#[cfg(test)] mod x {",
        "r#\"",
        "'",
        "'\\",
        "/*",
        "\"\\",
        "pub (",
        "a::",
    ] {
        let _ = paths(text);
    }
}
