"""Images as the authors' test program prepares them (its release of 2017), other ways, and lists of images.

load_image("photo.jpg", 224, 224)                     # float32 (3, 224, 224), BGR, less the mean
load_image("photo.jpg", 224, 224, resize="opencv")    # another way to resize: RESIZES names them
"""

from .decode import read_pixels
from .lists import find_images, read_image_list, sample_images
from .load import MEAN, load_image
from .resize import AUTHORS, RESIZES

__all__ = [
    "AUTHORS",
    "MEAN",
    "RESIZES",
    "find_images",
    "load_image",
    "read_image_list",
    "read_pixels",
    "sample_images",
]
