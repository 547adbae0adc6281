//! `minivmm model`: runs an allocation script, frames, or a request to a real board's window on the model of the kernel's CMA
//! allocator.

mod formats;
pub mod frames;
pub mod import;

use std::{
    collections::BTreeSet,
    fmt::Display,
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use cma::{
    area::Rules,
    map::Map,
    script::{EventKind, Run, Script, ScriptError},
    spec::WindowSpec,
};
use serde::Serialize;

use frames::{FitError, Frame};
use import::BoardError;

use crate::observe::exit_status::Reason;

/// Largest script, in bytes.
const MAX_SCRIPT: u64 = 16 << 20;

/// The arguments of `minivmm model`.
#[derive(Debug, Args)]
#[command(after_help = help(), after_long_help = format!("{}\n\n{}", help(), formats::help()))]
pub struct ModelArgs {
    /// The script, or - for stdin
    #[arg(required_unless_present_any = ["frames", "import"])]
    script: Option<PathBuf>,
    /// Draw the window at the end of the script, or of the board, into this file, as SVG
    #[arg(long, value_name = "FILE", conflicts_with = "frames")]
    svg: Option<PathBuf>,
    /// Print JSON: an array with an object for each step of the script, each of --frames, or --import
    #[arg(long)]
    json: bool,
    /// Instead of a script: count the frames that fit in --window, as in 1080p:NV12; may be repeated
    ///
    /// The size is 480p (640x480), 720p, 1080p, 2160p or WIDTHxHEIGHT. The format is a name or a four-character code of V4L2 or DRM;
    /// the list is at the end. If lines are padded, their length in bytes (V4L2's bytesperline) follows, as in
    /// 4056x3040:SRGGB12P,stride=6112. The output has the kernel's answer to the next request. With several frames it also has the
    /// number of smaller frames that can be freed without room for a larger one.
    #[arg(long, value_name = "SIZE:FORMAT[,stride=BYTES]", requires = "window", conflicts_with = "script")]
    frames: Vec<Frame>,
    /// The window for --frames, in the form of --cma
    #[arg(long, value_name = "SPEC", requires = "frames", conflicts_with = "script")]
    window: Option<WindowSpec>,
    /// Instead of a script: draw a real board's window, from copies of its debugfs files in this folder
    ///
    /// The folder has base_pfn, count, order_per_bit and bitmap of the board's /sys/kernel/debug/cma/NAME. Sizes in bytes assume
    /// pages of 4 KiB.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["script", "frames"])]
    import: Option<PathBuf>,
    /// Explain why a request for this number of pages fails on that board, and how it would succeed
    #[arg(long, value_name = "PAGES", requires = "import", conflicts_with_all = ["script", "frames"],
        value_parser = clap::value_parser!(u64).range(1..))]
    request: Option<u64>,
    /// Alignment of the request, as an order of pages [default: that of the DMA API]
    #[arg(long, value_name = "ORDER", requires = "request", value_parser = clap::value_parser!(u32).range(..52))]
    align: Option<u32>,
    /// Kernel for --frames and --import: 6.1 or 6.12 for Linux up to 6.14, 7.2 for later ones; a script has rules=...
    #[arg(long, value_name = "VERSION", conflicts_with = "script", default_value_t)]
    rules: Rules,
}

fn help() -> String {
    format!(
        "\
Examples:
  minivmm model fill.cma --svg window.svg
  minivmm model --frames 1080p:NV12 --window 64M
  minivmm model --frames 4056x3040:pRCC,stride=6112 --window 512M
  minivmm model --import board/linux,cma --request 1519 --svg board.svg
  printf 'window 64M\\n repeat 17\\n alloc b{{i}} 1013\\n end\\n stats' | minivmm model -

A script has one verb on each line. Numbers are decimal or 0x..., with K, M or G; sizes are in bytes; a
PFN (page frame number) is an address divided by the page size of 4096:
{}

Answers and messages are those of Linux 6.1; with rules=6.12 or rules=7.2 they are those of that release.
Exit status: 0; 1 if an expect failed; 2 for a bad script or request.",
        Script::HELP
    )
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The script cannot be read.
    #[error("the script {} cannot be read: {source}; name a text file, or - for stdin", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large for a script.
    #[error("the script {} is larger than {MAX_SCRIPT} bytes; shorten it with repeat ... end", .0.display())]
    TooLarge(PathBuf),
    /// The script has a mistake.
    #[error("the script {}, {source}", path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// The mistake and its line.
        source: ScriptError,
    },
    /// The picture cannot be written.
    #[error("the picture {} cannot be written: {source}; choose a writable folder", path.display())]
    Svg {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output cannot be written to.
    #[error("standard output cannot be written: {0}")]
    Print(#[from] io::Error),
    /// The frames cannot be counted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The folder does not describe a board's window.
    #[error(transparent)]
    Board(#[from] BoardError),
}

impl ModelError {
    /// The reason for minivmm's exit status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Print(_) => Reason::Failed,
            Self::Read { .. }
            | Self::TooLarge(_)
            | Self::Script { .. }
            | Self::Svg { .. }
            | Self::Fit(_)
            | Self::Board(_) => Reason::BadRequest,
        }
    }
}

/// Runs the script and prints its events, or counts the frames that fit, or describes a board's window. The status is 1 if an
/// `expect` of the script failed.
///
/// # Errors
/// If the script or the board's files cannot be read or have mistakes, if the window is not possible, or if the output cannot be
/// written.
pub fn main(args: &ModelArgs) -> Result<ExitCode, ModelError> {
    let out = BufWriter::new(io::stdout().lock());
    if let Some(path) = &args.script {
        return run(path, args, out);
    }
    let mut printer = Printer { out, json: args.json, objects: 0 };
    if let Some(folder) = &args.import {
        let request = args.request.map(|pages| (pages, args.align));
        let board = import::read(folder, request, args.rules)?;
        if let Some(path) = &args.svg {
            draw(&board.map, path)?;
        }
        still_taken(printer.object(&board).and_then(|()| printer.end()))?;
        return Ok(ExitCode::SUCCESS);
    }
    for frame in &args.frames {
        let fit = frames::fit(*frame, &args.frames, &args.window.clone().unwrap_or_default(), args.rules)?;
        if !still_taken(printer.object(&fit))? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    still_taken(printer.end())?;
    Ok(ExitCode::SUCCESS)
}

fn run(path: &Path, args: &ModelArgs, out: impl Write) -> Result<ExitCode, ModelError> {
    let script: Script =
        read(path)?.parse().map_err(|source| ModelError::Script { path: path.to_owned(), source })?;
    let mut run = script.run();
    let unheld = print(&mut run, args.json, out)?;
    for (_, sentence) in &unheld {
        let _ = writeln!(io::stderr(), "minivmm: the script {}, {sentence}", path.display());
    }
    if let Some(path) = &args.svg {
        draw(&run.window_map(), path)?;
    }
    Ok(if unheld.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn draw(map: &Map, path: &Path) -> Result<(), ModelError> {
    fs::write(path, map.to_svg()).map_err(|source| ModelError::Svg { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<String, ModelError> {
    let error = |source| ModelError::Read { path: path.to_owned(), source };
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(path).map_err(error)?),
    };
    let mut text = String::new();
    // One byte more than is allowed shows that the file is too large.
    source.take(MAX_SCRIPT + 1).read_to_string(&mut text).map_err(error)?;
    if text.len() as u64 > MAX_SCRIPT { Err(ModelError::TooLarge(path.to_owned())) } else { Ok(text) }
}

/// Prints the events, and runs the script to its end even if the output is closed. Returns the lines with an `expect` that
/// failed, each with its sentence.
fn print(run: &mut Run<'_>, json: bool, out: impl Write) -> io::Result<BTreeSet<(usize, String)>> {
    let mut printer = Printer { out, json, objects: 0 };
    let mut unheld = BTreeSet::new();
    let mut taken = true;
    for event in run {
        if matches!(event.what, EventKind::Expect { held: false, .. }) {
            unheld.insert((event.line, event.to_string()));
        }
        taken = taken && still_taken(printer.object(&event))?;
    }
    if taken {
        still_taken(printer.end())?;
    }
    Ok(unheld)
}

/// Whether the output is still read. A reader that closed the pipe is not a failure.
fn still_taken(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

/// Prints objects as lines for people, or as a JSON array with a line for each. They are printed one at a time, as there can be a
/// million.
struct Printer<W> {
    out: W,
    json: bool,
    objects: u64,
}

impl<W: Write> Printer<W> {
    fn object(&mut self, object: &(impl Display + Serialize)) -> io::Result<()> {
        self.objects += 1;
        if !self.json {
            return writeln!(self.out, "{object}");
        }
        self.out.write_all(if self.objects == 1 { b"[\n" } else { b",\n" })?;
        Ok(serde_json::to_writer(&mut self.out, object)?)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.json {
            self.out.write_all(b"\n]\n")?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    const SCRIPT: &str = "window 64M name=isp
        repeat 16
            alloc b{i} 1013
        end
        alloc late 1013
        expect -12
        repeat 2
            expect ok
        end
        free b3
        stats
        map";

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: ModelArgs,
    }

    fn args(words: &[&str]) -> ModelArgs {
        Cli::try_parse_from([&["model"], words].concat()).unwrap().args
    }

    fn path(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    fn printed(json: bool) -> (String, BTreeSet<(usize, String)>) {
        let script: Script = SCRIPT.parse().unwrap();
        let mut out = Vec::new();
        let unheld = print(&mut script.run(), json, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), unheld)
    }

    #[test]
    fn lines_for_people() {
        let (text, unheld) = printed(false);
        let sentence = "line 8: expect ok: FAILED, the last alloc answered -12".to_owned();
        assert_eq!(unheld, BTreeSet::from([(8, sentence)]));
        assert!(text.starts_with(
            "line 1: window isp@40000000: 16384 pages at 0x40000000 (pfn 0x40000)\nline 3: alloc b0"
        ));
        for part in [
            "\n  cma: cma_alloc: isp@40000000: alloc failed, req-size: 1013 pages, ret: -12\n",
            "\n  1 more requests for 1013 pages at alignment 8 would be granted; ",
            "\n  0x0041000000 b4, 1013 pages\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn the_json_has_the_same_events_with_the_documented_names() {
        let (text, unheld) = printed(true);
        assert_eq!(unheld.len(), 1);
        let events: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(text.lines().count(), events.len() + 2);
        let window = json!({"line": 1, "event": "window", "name": "isp@40000000", "base": 1 << 30, "size": 64 << 20,
            "order_per_bit": 0, "rules": "6.1"});
        assert_eq!(events[0], window);
        let alloc = json!({"line": 3, "event": "alloc", "id": "b1", "pages": 1013, "align": 8, "errno": 0,
            "pfn": 0x40400, "reason": null, "busy": [], "dmesg": []});
        assert_eq!(events[2], alloc);
        assert_eq!((&events[17]["errno"], &events[17]["reason"]), (&json!(-12), &json!("no_run")));
        assert_eq!(events[17]["dmesg"].as_array().unwrap().len(), 2);
        let expect = json!({"line": 8, "event": "expect", "expected": 0, "found": -12, "held": false});
        assert_eq!(events[19], expect);
        let free = json!({"line": 10, "event": "free", "id": "b3", "pfn": 0x40c00, "pages": 1013});
        assert_eq!(events[21], free);
        let stats = &events[22];
        assert_eq!(
            (&stats["used"], &stats["count"], &stats["free_runs"]),
            (&json!(15 * 1013), &json!(16384), &json!(15))
        );
        assert_eq!(
            stats["last_request"],
            json!({"pages": 1013, "align": 8, "fits": 1, "unusable_free_index": 148})
        );
        assert!(
            events[23]["text"].as_str().unwrap().starts_with("isp at 0x40000000, 64 MiB: 15195 of 16384")
        );
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(self.0.into())
            }
        }
        let script: Script = SCRIPT.parse().unwrap();
        for json in [false, true] {
            let mut run = script.run();
            assert_eq!(print(&mut run, json, Broken(io::ErrorKind::BrokenPipe)).unwrap().len(), 1);
            // The picture is that of the end.
            assert_eq!(run.window_map().owners().len(), 15);
            assert!(print(&mut script.run(), json, Broken(io::ErrorKind::StorageFull)).is_err());
        }
    }

    #[test]
    fn files_that_are_not_scripts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        let error = main(&args(&[path(&file)])).unwrap_err();
        assert!(error.to_string().contains("script cannot be read: No such file"), "{error}");
        for (content, part) in [
            (&b"window 64M\nalloc b 0"[..], "script, line 2: alloc has zero pages; the smallest number is 1"),
            (b"\xff\xfe", "script cannot be read: stream did not contain valid UTF-8; name a text file"),
            (&[b' '; 16 << 20 | 1], "script is larger than 16777216 bytes"),
        ] {
            fs::write(&file, content).unwrap();
            let error = main(&args(&[path(&file)])).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.reason(), Reason::BadRequest);
        }
    }

    #[test]
    fn the_picture_has_the_buffers() {
        let folder = tempfile::tempdir().unwrap();
        let (script, svg) = (folder.path().join("script"), folder.path().join("window.svg"));
        fs::write(&script, "window 64M\nalloc left_channel 760\nexpect ok").unwrap();
        let picture = args(&[path(&script), "--json", "--svg", path(&svg)]);
        assert_eq!(main(&picture).unwrap(), ExitCode::SUCCESS);
        assert!(fs::read_to_string(svg).unwrap().contains("left_channel"));
        let nowhere = folder.path().join("no/where.svg");
        let nowhere = args(&[path(&script), "--json", "--svg", path(&nowhere)]);
        let error = main(&nowhere).unwrap_err();
        assert!(error.to_string().contains("where.svg cannot be written: No such file"), "{error}");
        assert_eq!(error.reason(), Reason::BadRequest);
    }

    #[test]
    fn a_script_or_frames_in_a_window() {
        for words in [
            &[][..],
            &["--frames", "1080p:NV12"],
            &["--window", "64M"],
            &["script", "--window", "64M"],
            &["script", "--frames", "1080p:NV12", "--window", "64M"],
            &["--frames", "1080p:NV12", "--window", "64M", "--svg", "window.svg"],
            &["script", "--import", "board"],
            &["--frames", "1080p:NV12", "--window", "64M", "--import", "board"],
            &["script", "--request", "8"],
            &["script", "--rules", "7.2"],
            &["--import", "board", "--align", "8"],
            &["--import", "board", "--request", "0"],
            &["--import", "board", "--request", "1", "--align", "52"],
            &["--import", "board", "--rules", "6.2"],
        ] {
            assert!(Cli::try_parse_from([&["model"], words].concat()).is_err(), "{words:?}");
        }
        let frames = ["--frames", "1080p:NV12", "--frames", "720p:YUYV", "--json", "--window"];
        assert_eq!(main(&args(&[&frames[..], &["64M"]].concat())).unwrap(), ExitCode::SUCCESS);
        let error = main(&args(&[&frames[..], &["4097"]].concat())).unwrap_err();
        assert!(
            error.to_string().contains("the size 0x1001, which is not a multiple of the page size"),
            "{error}"
        );
        assert_eq!(error.reason(), Reason::BadRequest);
    }

    #[test]
    fn a_boards_window_is_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let svg = folder.path().join("window.svg");
        let import = ["--import", path(folder.path()), "--request", "5", "--json", "--svg", path(&svg)];
        assert_eq!(main(&args(&import)).unwrap_err().reason(), Reason::BadRequest);
        for (file, text) in [("base_pfn", "64"), ("count", "32"), ("order_per_bit", "0"), ("bitmap", "7")] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        assert_eq!(main(&args(&import)).unwrap(), ExitCode::SUCCESS);
        assert!(
            fs::read_to_string(svg).unwrap().contains("0x40000 – 0x5ffff, 128 KiB. 3 of 32 pages allocated")
        );
    }
}
