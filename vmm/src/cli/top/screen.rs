//! The screen of `minivmm top`: what it knows of the machine, as lines.

use std::collections::HashMap;

use cma::{
    map::{LEGEND, human},
    size,
};
use devices::faults::RuleStatus;
use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Style, Stylize as _},
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    api::{GuestWindow, Status},
    cli::ctl,
    observe::words::counted,
};

/// Lines of a window's map.
const MAP_LINES: u64 = 4;
/// The keys, as the last line has them.
const KEYS: &str = "q end  p pause, resume  a all counters  up, down scroll";

/// What is shown.
pub(super) struct View {
    socket: String,
    status: Option<Status>,
    /// Counts per second, by the id of a device and the name of a counter.
    rates: HashMap<(String, String), f64>,
    exits_per_second: f64,
    /// The windows, or a sentence why they are unknown.
    pub windows: Result<Vec<GuestWindow>, String>,
    /// The rules of fault injection.
    pub rules: Vec<RuleStatus>,
    /// The machine's error, to a key.
    pub message: Option<String>,
    zeros: bool,
    first_line: u16,
}

impl View {
    /// A view of the machine at `socket`, of which nothing is known yet.
    pub(super) fn new(socket: String) -> Self {
        Self {
            socket,
            status: None,
            rates: HashMap::new(),
            exits_per_second: 0.0,
            windows: Ok(Vec::new()),
            rules: Vec::new(),
            message: None,
            zeros: false,
            first_line: 0,
        }
    }

    /// Takes a new state. The rates are counted since the last one.
    pub(super) fn take_status(&mut self, status: Status) {
        if let Some(last) = &self.status {
            let seconds = status.seconds - last.seconds;
            let rate = |count: u64, before: u64| {
                if seconds > 0.0 { count.saturating_sub(before) as f64 / seconds } else { 0.0 }
            };
            self.exits_per_second = rate(status.exits, last.exits);
            self.rates = status
                .devices
                .iter()
                .zip(&last.devices)
                .flat_map(|(device, last)| {
                    device.counters.iter().map(move |(name, count)| {
                        let before = last.counters.get(name).copied().unwrap_or_default();
                        ((device.id.clone(), name.clone()), rate(*count, before))
                    })
                })
                .collect();
        }
        self.status = Some(status);
    }

    /// Whether the machine is paused.
    pub(super) fn is_paused(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.paused)
    }

    /// Shows the counters that are zero, or hides them.
    pub(super) fn toggle_zeros(&mut self) {
        self.zeros = !self.zeros;
    }

    /// Moves the lines up, or down if `lines` is negative.
    pub(super) fn scroll(&mut self, lines: i16) {
        self.first_line = self.first_line.saturating_add_signed(lines);
    }

    /// Draws it.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let [body, footer] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
        let lines = self.lines(body.width);
        let hidden = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(body.height);
        self.first_line = self.first_line.min(hidden);
        frame.render_widget(Paragraph::new(lines).scroll((self.first_line, 0)), body);
        let footer_line = match &self.message {
            Some(message) => Line::from(message.as_str()).red(),
            None => Line::from(KEYS).dim(),
        };
        frame.render_widget(footer_line, footer);
    }

    /// All lines, for a terminal of `width` columns.
    fn lines(&self, width: u16) -> Vec<Line<'static>> {
        let Some(status) = &self.status else {
            return vec![Line::from(format!("{}: waiting for the machine", self.socket))];
        };
        let booted = match status.seconds_to_boot_mark {
            Some(seconds) => format!("booted after {seconds:.2} s"),
            None => "not booted yet".to_owned(),
        };
        let mut head = vec![Span::from(format!(
            "{}: running for {:.0} s, {booted}, {}, {} of memory",
            self.socket,
            status.seconds,
            counted(status.cpus.into(), "vCPU"),
            size::format(status.memory)
        ))];
        if status.paused {
            head.push(Span::from(", paused").yellow());
        }
        let mut lines = vec![
            Line::from(head),
            Line::from(format!("exits to minivmm {}, {}", status.exits, per_second(self.exits_per_second))),
        ];
        self.add_windows(&mut lines, width);
        self.add_devices(&mut lines, status);
        self.add_rules(&mut lines);
        lines
    }

    fn add_windows(&self, lines: &mut Vec<Line<'static>>, width: u16) {
        let windows = match &self.windows {
            Ok(windows) => windows,
            Err(sentence) => {
                lines.extend([Line::default(), heading("CMA windows"), Line::from(sentence.clone()).red()]);
                return;
            }
        };
        for window in windows {
            let map = ctl::map(window);
            lines.push(Line::default());
            lines.push(heading(&format!("CMA window {} at {:#x}, {}", map.name, map.base, human(map.size))));
            lines.push(Line::from(map.statistics()));
            let (pages, symbols) = map.symbols(u64::from(width) * MAP_LINES);
            lines.extend(symbols.chunks(width.max(1).into()).map(colored));
            lines
                .push(Line::from(format!("a character is {}: {LEGEND}", human(pages * map.page_size))).dim());
            lines.extend(ctl::owner_lines(window).into_iter().map(Line::from));
        }
    }

    fn add_devices(&self, lines: &mut Vec<Line<'static>>, status: &Status) {
        for device in &status.devices {
            let shown: Vec<_> =
                device.counters.iter().filter(|(_, count)| self.zeros || **count > 0).collect();
            if shown.is_empty() {
                continue;
            }
            lines.extend([Line::default(), heading(&format!("{} ({})", device.id, device.kind))]);
            for (name, count) in shown {
                let rate = self.rates.get(&(device.id.clone(), name.clone())).copied().unwrap_or_default();
                let line = Line::from(format!("{name:<32}{count:>16}  {:>14}", per_second(rate)));
                lines.push(if rate > 0.0 { line } else { line.dim() });
            }
        }
    }

    fn add_rules(&self, lines: &mut Vec<Line<'static>>) {
        if self.rules.is_empty() {
            return;
        }
        lines.extend([Line::default(), heading("fault injection")]);
        for rule in &self.rules {
            let (firings, events) = (counted(rule.firings, "time"), counted(rule.events, "event"));
            lines.push(Line::from(format!("{:<32}on {}, fired {firings} at {events}", rule.name, rule.on)));
        }
    }
}

fn heading(text: &str) -> Line<'static> {
    Line::from(text.to_owned()).bold()
}

fn per_second(rate: f64) -> String {
    format!("{rate:.1}/s")
}

/// A line of a map: a span for each run of equal characters.
fn colored(symbols: &[char]) -> Line<'static> {
    let spans = symbols.chunk_by(|a, b| a == b).map(|run| {
        let color = match run[0] {
            '#' | '+' => Color::Cyan,
            'W' | 'w' => Color::Green,
            '-' => Color::Yellow,
            _ => Color::DarkGray,
        };
        Span::styled(run.iter().collect::<String>(), Style::new().fg(color))
    });
    Line::from(spans.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend, buffer::Cell};

    use super::*;
    use crate::{
        api::{OwnedRun, Reader},
        observe::report::DeviceReport,
    };

    fn status(seconds: f64, frames: u64) -> Status {
        Status {
            version: "0".into(),
            seconds,
            seconds_to_boot_mark: Some(1.5),
            paused: false,
            cpus: 2,
            exits: frames * 10,
            memory: 512 << 20,
            windows: Vec::new(),
            devices: vec![DeviceReport::new("camera0".into(), "camera", [("frames", frames), ("drops", 0)])],
        }
    }

    /// The lines of the screen without the spaces at their ends.
    fn screen(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content().chunks(width.into());
        rows.map(|row| row.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned()).collect()
    }

    #[test]
    fn a_machine_is_shown_with_its_rates() {
        let mut view = View::new("vm.sock".into());
        assert_eq!(screen(&mut view, 60, 2), ["vm.sock: waiting for the machine", KEYS]);
        view.take_status(status(10.0, 100));
        view.take_status(status(12.0, 160));
        view.windows = Ok(vec![GuestWindow {
            name: "isp".into(),
            base: 0x4000_0000,
            size: 64 << 12,
            order_per_bit: 0,
            pages_allocated: 8,
            runs_allocated: vec![(8, 8)],
            runs_written: vec![(12, 4)],
            owners: Some(vec![
                OwnedRun { first: 8, pages: 1, comm: "v4l2-ctl".into(), pid: 61, tgid: 60 },
                OwnedRun { first: 9, pages: 4, comm: "sh".into(), pid: 70, tgid: 70 },
                OwnedRun { first: 13, pages: 3, comm: "v4l2-ctl".into(), pid: 62, tgid: 60 },
            ]),
            read_by: Reader::Memory,
        }]);
        let seen = screen(&mut view, 80, 14);
        assert_eq!(seen[0], "vm.sock: running for 12 s, booted after 1.50 s, 2 vCPUs, 512M of memory");
        assert_eq!(seen[1], "exits to minivmm 1600, 300.0/s");
        assert_eq!(seen[3], "CMA window isp at 0x40000000, 256 KiB");
        let map = format!("{}####WWWW{}", ".".repeat(8), ".".repeat(48));
        assert_eq!((seen[5].as_str(), &seen[6][..22]), (map.as_str(), "a character is 4 KiB: "));
        let owners = ["owned by v4l2-ctl, pid 60: 4 pages, 8 13-15", "owned by sh, pid 70: 4 pages, 9-12"];
        assert_eq!(seen[7..9], owners);
        assert_eq!(seen[10], "camera0 (camera)");
        let words: Vec<&str> = seen[11].split_whitespace().collect();
        assert_eq!((words, seen[12].as_str()), (vec!["frames", "160", "30.0/s"], ""));
        view.toggle_zeros();
        assert!(screen(&mut view, 80, 14)[12].starts_with("drops "));
    }

    #[test]
    fn a_small_terminal_scrolls_to_the_last_line() {
        let mut view = View::new("vm.sock".into());
        view.take_status(status(10.0, 100));
        view.windows = Err("the guest has no agent".into());
        view.scroll(100);
        let seen = screen(&mut view, 40, 4);
        assert!(seen[2].starts_with("frames"), "{seen:?}");
        view.scroll(-100);
        assert!(screen(&mut view, 40, 4)[0].starts_with("vm.sock: "));
        view.message = Some("the machine cannot pause".into());
        assert_eq!(screen(&mut view, 40, 4)[3], "the machine cannot pause");
    }
}
