//! The demo's page: its two pictures, with captions.

use std::{fs, path::Path};

use super::{DemoError, PICTURED, SIZE};

/// Writes `index.html` into the demo's folder.
pub(super) fn write(folder: &Path) -> Result<(), DemoError> {
    let path = folder.join("index.html");
    fs::write(&path, page()).map_err(DemoError::io("write", &path))
}

fn page() -> String {
    let (width, height) = SIZE;
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>minivmm's demo</title>\n\
         <style>body{{font:15px sans-serif;margin:2em;max-width:62em}}figure{{margin:2em 0}}img{{max-width:100%}}</style>\n\
         <h1>minivmm's demo</h1>\n\
         <figure><img src=\"frame.png\" alt=\"A landscape with colour patches\"><figcaption>Frame {PICTURED} of the stream, \
         {width}x{height}, RGB24, as <code>v4l2-ctl</code> received it in the guest. The model of an image sensor looks at \
         <a href=\"scene.png\">scene.png</a>, and the model of an ISP makes the picture. The short strip of coloured pixels at \
         the left end of the first line is the stamp: 32 bytes with the sequence number and a checksum of the frame. Every frame \
         carries it, and the demo has checked it in all frames.</figcaption></figure>\n\
         <figure><img src=\"cma-map.svg\" alt=\"A map of the CMA window\"><figcaption>The CMA window in the middle of the stream: \
         the allocated pages by the kernel's bitmap, the buffers of the camera's driver, and the pages that the camera \
         wrote.</figcaption></figure>\n</html>\n"
    )
}
