"""Writes pictures of scikit-image into a folder, and what OpenCV makes of their mosaics; tells name, width, height."""

import os
import sys

import cv2
import numpy
import skimage
from skimage import io

PICTURES = [
    "astronaut.png", "chelsea.png", "coffee.png", "color.png", "hubble_deep_field.jpg", "ihc.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
]

for name in PICTURES:
    picture = io.imread(os.path.join(os.path.dirname(skimage.__file__), "data", name))[..., :3]
    height, width = (length // 2 * 2 for length in picture.shape[:2])
    picture = numpy.ascontiguousarray(picture[:height, :width])
    # Red and green on even lines, green and blue on odd ones.
    mosaic = picture[..., 1].copy()
    mosaic[0::2, 0::2] = picture[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = picture[1::2, 1::2, 2]
    made = {
        "rgb": picture,
        "bilinear": cv2.cvtColor(mosaic, cv2.COLOR_BayerRGGB2RGB),
        "edge-aware": cv2.cvtColor(mosaic, cv2.COLOR_BayerRGGB2RGB_EA),
    }
    for kind, pixels in made.items():
        pixels.tofile(os.path.join(sys.argv[1], f"{name}.{kind}"))
    print(name, width, height)
