//! The metrics of a machine: their table, and their text.

use ::devices::faults::RuleStatus;
use cma::{PAGE_SIZE, area::Area};

use super::exposition::{Exposition, Kind, name_part};
use crate::api::Status;

/// A row of the table.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it is, as its line HELP says it.
    pub help: &'static str,
}

/// Declares the rows, each as a constant, and the table of them.
macro_rules! metrics {
    ($($row:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(const $row: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// The metrics, in their order.
        pub const METRICS: &[Metric] = &[$($row),*];
    };
}

metrics! {
    INFO = "minivmm_info", Gauge, ["version", "arch"], "The machine; the value is 1.";
    RUNNING = "minivmm_running", Gauge, [], "Whether the machine runs: 1, or 0 at its end.";
    EXIT_STATUS = "minivmm_exit_status", Gauge, [], "The exit status of minivmm, at the end of the machine.";
    UPTIME = "minivmm_uptime_seconds", Gauge, [], "Time since the start of the process.";
    BOOT_MARK = "minivmm_boot_mark_seconds", Gauge, [], "Time from the start of the process to the boot mark of the guest's init, once it was made.";
    PAUSED = "minivmm_paused", Gauge, [], "Whether the vCPUs are paused, or about to be.";
    VCPUS = "minivmm_vcpus", Gauge, [], "Number of vCPUs.";
    EXITS = "minivmm_exits_total", Counter, [], "How often a vCPU has left the guest for minivmm: the returns of KVM_RUN.";
    MEMORY = "minivmm_guest_memory_bytes", Gauge, [], "Guest memory.";
    RESIDENT = "minivmm_resident_bytes", Gauge, [], "Resident memory of the process, with the guest's.";
    OVERHEAD = "minivmm_overhead_bytes", Gauge, [], "Resident memory of the process apart from the guest's, by counters of the kernel that can be some hundred KiB off for each thread.";
    WINDOW = "minivmm_window_bytes", Gauge, ["window"], "Size of a CMA window.";
    WRITTEN = "minivmm_window_written_pages", Gauge, ["window"], "Number of the window's pages of 4 KiB that devices wrote to since the start.";
    AREA = "minivmm_cma_area_pages", Gauge, ["area"], "Pages of 4 KiB of a CMA area of the guest's kernel, where minivmm can read it from guest memory.";
    ALLOCATED = "minivmm_cma_area_allocated_pages", Gauge, ["area"], "Number of these pages that are allocated.";
    COUNTER = "minivmm_device_COUNTER_total", Counter, ["device", "kind"], "The counter COUNTER of the devices that have it.";
    RULE_EVENTS = "minivmm_fault_rule_events_total", Counter, ["rule", "on", "action"], "Number of the events that a rule of the fault injection counted.";
    RULE_FIRINGS = "minivmm_fault_rule_firings_total", Counter, ["rule", "on", "action"], "How often the rule fired.";
}

/// The part of the name of a device's metric that stands for its counter.
const COUNTER_PART: &str = "COUNTER";

/// A CMA area of the guest's kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AreaFigures {
    /// The kernel's name for it.
    pub name: String,
    /// Its pages of 4 KiB.
    pub pages: u64,
    /// Those that are allocated.
    pub allocated: u64,
}

impl AreaFigures {
    /// The figures of `area`, whose kernel has pages of `page_size` bytes.
    pub fn new(area: &Area, page_size: u64) -> Self {
        let scale = page_size / PAGE_SIZE;
        let (pages, allocated) = (area.count() * scale, area.allocated().count() * scale);
        Self { name: area.name().to_owned(), pages, allocated }
    }
}

/// The figures of a machine at one time.
#[derive(Debug)]
pub struct Figures<'a> {
    /// Its state.
    pub status: &'a Status,
    /// The rules of the fault injection.
    pub rules: &'a [RuleStatus],
    /// The CMA areas of the guest's kernel; none if they cannot be read.
    pub areas: &'a [AreaFigures],
    /// Resident memory in bytes.
    pub resident: u64,
    /// Resident memory apart from the guest's, in bytes.
    pub overhead: u64,
    /// The exit status, at the end.
    pub end: Option<u8>,
}

impl Figures<'_> {
    /// The figures in Prometheus' text format.
    pub fn text(&self) -> String {
        let Self { status, rules, areas, resident, overhead, end } = self;
        let mut writer = Writer::default();
        writer.one(&INFO, &[&status.version, std::env::consts::ARCH], Some(1));
        writer.one(&RUNNING, &[], Some(u8::from(end.is_none())));
        writer.one(&EXIT_STATUS, &[], *end);
        writer.one(&UPTIME, &[], Some(status.seconds));
        writer.one(&BOOT_MARK, &[], status.seconds_to_boot_mark);
        writer.one(&PAUSED, &[], Some(u8::from(status.paused)));
        writer.one(&VCPUS, &[], Some(status.cpus));
        writer.one(&EXITS, &[], Some(status.exits));
        writer.one(&MEMORY, &[], Some(status.memory));
        writer.one(&RESIDENT, &[], Some(*resident));
        writer.one(&OVERHEAD, &[], Some(*overhead));
        let windows = || status.windows.iter();
        writer.each(&WINDOW, windows().map(|window| ([window.name.as_str()], window.size)));
        writer.each(&WRITTEN, windows().map(|window| ([window.name.as_str()], window.pages_written)));
        // The guest chooses the names, and a sample comes once.
        let is_first = |(index, area): &(usize, &AreaFigures)| {
            !areas[..*index].iter().any(|earlier| earlier.name == area.name)
        };
        let areas = || areas.iter().enumerate().filter(is_first).map(|(_, area)| area);
        writer.each(&AREA, areas().map(|area| ([area.name.as_str()], area.pages)));
        writer.each(&ALLOCATED, areas().map(|area| ([area.name.as_str()], area.allocated)));
        self.counters(&mut writer);
        let of =
            |rule: &'_ RuleStatus| [rule.name.clone(), rule.on.to_string(), rule.action.name().to_owned()];
        let labels: Vec<[String; 3]> = rules.iter().map(of).collect();
        let labels = || labels.iter().map(|labels| labels.each_ref().map(String::as_str));
        writer.each(&RULE_EVENTS, labels().zip(rules.iter().map(|rule| rule.events)));
        writer.each(&RULE_FIRINGS, labels().zip(rules.iter().map(|rule| rule.firings)));
        writer.0.text()
    }

    /// A family for each name of a counter, with the devices that have it.
    fn counters(&self, writer: &mut Writer) {
        let devices = &self.status.devices;
        let mut names: Vec<&str> = Vec::new();
        for name in devices.iter().flat_map(|device| device.counters.keys()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        for counter in names {
            let name = COUNTER.name.replace(COUNTER_PART, &name_part(counter));
            let help = COUNTER.help.replace(COUNTER_PART, counter);
            let mut family = writer.0.family(&name, COUNTER.kind, &help);
            for device in devices {
                if let Some(value) = device.counters.get(counter) {
                    family.sample(&[("device", &device.id), ("kind", &device.kind)], value);
                }
            }
        }
    }
}

/// Writes rows of the table.
#[derive(Default)]
struct Writer(Exposition);

impl Writer {
    /// A metric with one sample, if there is a value.
    fn one(&mut self, metric: &Metric, labels: &[&str], value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.each(metric, [(labels, value)]);
        }
    }

    /// A metric with these samples, each with the values of its labels.
    fn each<L: AsRef<[S]>, S: AsRef<str>>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = (L, impl std::fmt::Display)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let mut family = self.0.family(metric.name, metric.kind, metric.help);
        for (values, value) in samples {
            let labels: Vec<(&str, &str)> =
                metric.labels.iter().copied().zip(values.as_ref().iter().map(AsRef::as_ref)).collect();
            family.sample(&labels, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fmt::Write as _, fs, path::Path};

    use ::devices::{REGISTRY, faults::Action};

    use super::*;
    use crate::observe::report::{DeviceReport, WindowReport};

    fn status() -> Status {
        Status {
            version: "0.1.0".to_owned(),
            seconds: 12.5,
            seconds_to_boot_mark: Some(1.48),
            paused: false,
            cpus: 1,
            exits: 81_234,
            memory: 1 << 30,
            windows: vec![WindowReport {
                name: "isp".to_owned(),
                base: 0x6000_0000,
                size: 64 << 20,
                node: Some(0),
                pages_written: 1350,
                runs_written: vec![(0, 1350)],
            }],
            devices: vec![
                DeviceReport::new("camera0".to_owned(), "camera", [("frames", 240), ("bus_errors", 0)]),
                DeviceReport::new("camera1".to_owned(), "camera", [("frames", 7), ("bus_errors", 1)]),
                DeviceReport::new("msgdma0".to_owned(), "msgdma", [("bus_errors", 2)]),
            ],
        }
    }

    fn rules() -> Vec<RuleStatus> {
        vec![RuleStatus {
            name: "torn".to_owned(),
            on: "frame.dma".into(),
            action: Action::new("torn", Some(("lines", 1))),
            events: 240,
            firings: 1,
        }]
    }

    fn area(name: &str, allocated: u64) -> AreaFigures {
        AreaFigures { name: name.to_owned(), pages: 16384, allocated }
    }

    fn example() -> String {
        let (status, rules, areas) = (status(), rules(), [area("isp@60000000", 1352)]);
        let (resident, overhead) = (95_600_640, 4_112_384);
        Figures { status: &status, rules: &rules, areas: &areas, resident, overhead, end: None }.text()
    }

    #[test]
    fn a_counter_is_one_family_of_all_devices() {
        let text = example();
        for lines in [
            "# HELP minivmm_device_bus_errors_total The counter bus_errors of the devices that have it.\n\
             # TYPE minivmm_device_bus_errors_total counter\n\
             minivmm_device_bus_errors_total{device=\"camera0\",kind=\"camera\"} 0\n\
             minivmm_device_bus_errors_total{device=\"camera1\",kind=\"camera\"} 1\n\
             minivmm_device_bus_errors_total{device=\"msgdma0\",kind=\"msgdma\"} 2\n",
            "minivmm_fault_rule_firings_total{rule=\"torn\",on=\"frame.dma\",action=\"torn\"} 1\n",
            "minivmm_uptime_seconds 12.5\n",
            "minivmm_running 1\n",
        ] {
            assert!(text.contains(lines), "{lines} is not in {text}");
        }
        assert!(!text.contains("exit_status"));
    }

    #[test]
    fn what_is_unknown_is_left_out_and_no_sample_comes_twice() {
        let status = Status { seconds_to_boot_mark: None, windows: Vec::new(), ..status() };
        let areas = [area("a\"b", 1), area("a\"b", 2)];
        let (resident, overhead, end) = (1, 1, Some(7));
        let text = Figures { status: &status, rules: &[], areas: &areas, resident, overhead, end }.text();
        for absent in ["boot_mark", "minivmm_window", "fault_rule"] {
            assert!(!text.contains(absent), "{absent} is in {text}");
        }
        assert_eq!(text.matches("minivmm_cma_area_pages{").count(), 1, "{text}");
        assert!(text.contains("minivmm_cma_area_allocated_pages{area=\"a\\\"b\"} 1\n"), "{text}");
        assert!(text.contains("minivmm_running 0\n") && text.contains("minivmm_exit_status 7\n"), "{text}");
    }

    /// A name that is not valid would be changed, and two could become the same.
    #[test]
    fn the_names_of_all_counters_are_parts_of_valid_names() {
        for (device, counter) in
            REGISTRY.iter().flat_map(|device| device.counters.iter().map(move |name| (device.name, *name)))
        {
            assert_eq!(name_part(counter), counter, "{device}");
            assert!(!counter.ends_with("_total"), "{device}: {counter}");
        }
    }

    /// The line of the page after which it is generated.
    const MARK: &str = "<!-- Generated: UPDATE_PAGES=1 cargo test -p vmm --lib metrics -->\n";

    #[test]
    fn the_page_has_the_table_and_an_example() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/observe/metrics/METRICS.md");
        let page = fs::read_to_string(&path).unwrap();
        let (written, _) = page.split_once(MARK).unwrap();
        let mut generated = "\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
        for Metric { name, kind, labels, help } in METRICS {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(generated, "| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "));
        }
        let example = example().replace(std::env::consts::ARCH, "x86_64");
        let _ = write!(generated, "\n## An example\n\n```text\n{example}```\n");
        let whole = format!("{written}{MARK}{generated}");
        if env::var_os("UPDATE_PAGES").is_some() {
            fs::write(&path, &whole).unwrap();
        }
        let advice = "regenerate it with UPDATE_PAGES=1 cargo test -p vmm --lib metrics";
        assert!(fs::read_to_string(&path).unwrap() == whole, "{} differs; {advice}", path.display());
    }
}
