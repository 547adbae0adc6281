//! Pictures of the frames that a run is about, with captions.

use std::{fs, path::Path};

use devices::media::Captured;

use crate::{
    experiment::{
        file::Case,
        run::{Evidence, names},
    },
    observe::frames,
};

/// The maximum number of pictures of a run.
const PICTURES: usize = 4;

/// Writes pictures of a run's bad frames into its folder or, without bad frames, of the frames that had faults. Returns the
/// names of the files, and the captions.
pub fn pictures(case: &Case, evidence: &Evidence, folder: &Path) -> (Vec<String>, Vec<String>) {
    let Some(frames) = &case.expect.frames else { return (Vec::new(), Vec::new()) };
    let file = folder.join(names::OUT).join(&frames.file);
    let picture = |(index, caption): (u64, String)| {
        let bytes = frames::read_frame(&file, &frames.layout, index).ok()?;
        let captured = Captured::new(&frames.layout, bytes)?;
        let name = format!("frame-{index}.png");
        captured.write_png(fs::File::create(folder.join(&name)).ok()?).ok()?;
        Some((name, caption))
    };
    concerned(evidence).into_iter().take(PICTURES).filter_map(picture).unzip()
}

/// The frames of the pictures: index in the file, and caption.
fn concerned(evidence: &Evidence) -> Vec<(u64, String)> {
    let bad = evidence.frames.iter().flat_map(|looked| &looked.bad);
    let mut frames: Vec<_> =
        bad.map(|(index, reason)| (*index, format!("Frame {index} is bad: {reason}"))).collect();
    if frames.is_empty() {
        for firing in evidence.firings() {
            let Some(index) = firing.frame.map(u64::from) else { continue };
            let (rule, action, on) = (&firing.rule, firing.action.name(), &firing.on);
            if frames.iter().all(|(other, _)| *other != index) {
                frames.push((index, format!("Frame {index}: the rule \"{rule}\" fired ({action} at {on})")));
            }
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::run::Looked;

    #[test]
    fn captions_give_the_reason() {
        let bad = vec![(3, "it is torn".to_owned())];
        let evidence = Evidence { frames: Some(Looked { bad, ..Looked::default() }), ..Evidence::default() };
        assert_eq!(concerned(&evidence), [(3, "Frame 3 is bad: it is torn".to_owned())]);
        assert_eq!(concerned(&Evidence::default()), []);
    }
}
