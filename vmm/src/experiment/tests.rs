//! Tests of the runner of experiments.

use super::*;

fn experiment(text: &str) -> Experiment {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("name = \"a/b c\"\nmachine = \"--cma 16M\"\n{text}")).unwrap();
    Experiment::open(file.path().to_owned(), &[]).unwrap()
}

fn queue<'a>(memories: &[u64], experiment: &'a Experiment) -> Mutex<Queue<'a>> {
    let todo = memories.iter().map(|&memory| Todo {
        experiment,
        case: &experiment.cases[0],
        memory,
        folder: String::new(),
        fingerprint: String::new(),
    });
    Mutex::new(Queue { todo: todo.enumerate().collect(), memory: 0, done: Vec::new() })
}

const TRUE: &str = "workload = \"true\"\n";

#[test]
fn guests_share_the_memory_and_a_large_one_runs_alone() {
    let experiment = experiment(TRUE);
    let (queue, changed) = (queue(&[40, 50, 200], &experiment), Condvar::new());
    let stop = AtomicBool::new(false);
    let next = || next(&queue, &changed, 100, &stop);
    assert_eq!(next().unwrap().0, 0);
    assert_eq!(next().unwrap().0, 1);
    thread::scope(|scope| {
        let third = scope.spawn(|| next().unwrap().0);
        thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(lock(&queue).todo.len(), 1, "it waits");
        lock(&queue).memory = 0;
        changed.notify_all();
        assert_eq!(third.join().unwrap(), 2);
    });
    assert!(next().is_none());
}

#[test]
fn after_a_stop_nothing_begins() {
    let experiment = experiment(TRUE);
    let (queue, changed) = (queue(&[40, 90], &experiment), Condvar::new());
    let stop = AtomicBool::new(false);
    let next = || next(&queue, &changed, 100, &stop).map(|(index, _)| index);
    assert_eq!(next(), Some(0));
    thread::scope(|scope| {
        // It waits for memory, and is woken by the one that has it.
        let second = scope.spawn(next);
        thread::sleep(std::time::Duration::from_millis(50));
        stop.store(true, Ordering::Relaxed);
        lock(&queue).memory = 0;
        changed.notify_all();
        assert_eq!(second.join().unwrap(), None);
    });
    assert_eq!(lock(&queue).todo.len(), 1);
}

fn machine(_: &[String]) -> Result<Machine, String> {
    Ok(Machine { memory: 1, files: Vec::new() })
}

#[test]
fn names_become_folders() {
    assert_eq!(todo(&[experiment(TRUE)], machine).unwrap()[0].folder, "a-b-c/seed=1");
    assert_eq!((slug("../x"), slug(".."), slug(".a.")), ("-x".to_owned(), "-".to_owned(), "a.".to_owned()));
    assert_eq!(slug(&"x".repeat(1000)).len(), 120);
}

#[test]
fn no_two_runs_have_one_folder() {
    let matrix = "workload = \"echo {a}\"\n[matrix]\na = [\"b c\", \"b/c\"]\n";
    let error = todo(&[experiment(matrix)], machine).err().unwrap().to_string();
    assert!(error.starts_with("the runs a=b c,seed=1 and a=b/c,seed=1 of "), "{error}");
    assert!(error.contains(" have the same folder, a-b-c/a=b-c,seed=1; use "), "{error}");
}

#[test]
fn a_run_is_another_with_another_image() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let of = |text: &str| {
        let files = vec![image.path().to_owned()];
        let machine = |_: &[String]| Ok(Machine { memory: 1, files: files.clone() });
        todo(&[experiment(text)], machine).unwrap()[0].fingerprint.clone()
    };
    let first = of(TRUE);
    assert_eq!(of(TRUE), first);
    assert_ne!(of("workload = \"false\"\n"), first);
    fs::write(image.path(), "other").unwrap();
    assert_ne!(of(TRUE), first);
}

#[test]
fn plans_are_minimised_by_what_a_smaller_one_can_show() {
    let rule = "[[rule]]\nname = \"r\"\non = \"irq\"\naction = \"lose\"\n";
    let with = experiment(&format!("{TRUE}{rule}"));
    let complaint = |name: &str| judge::Complaint { expectation: name.into(), text: String::new() };
    let failed = Verdict { complaints: vec![complaint("fired"), complaint("log")] };
    assert_eq!(to_minimise(&with.cases[0], &failed), Some("log"));
    assert_eq!(to_minimise(&experiment(TRUE).cases[0], &failed), None);
    assert_eq!(to_minimise(&with.cases[0], &Verdict { complaints: vec![complaint("fired")] }), None);
}
