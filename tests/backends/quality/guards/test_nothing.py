"""Images that show nothing."""

import torch
from exeunt.backends.quality.guards.nothing import blurred_and_grey, images_of_nothing
from exeunt.backends.quality.guards.pixels import NAMES, image_statistics
from exeunt.backends.quality.names import NOTHING

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (5, 3, 28, 20), generator=GENERATOR, dtype=torch.uint8)
NOISE = torch.randint(0, 256, (5, 3, 28, 20), generator=GENERATOR, dtype=torch.uint8)
MEAN = IMAGES.double().mean(0).round().to(torch.uint8)


def test_each_kind_is_as_many_images_of_the_same_shape():
    found = images_of_nothing(IMAGES, NOISE, MEAN)
    assert found.keys() < NOTHING.keys()
    for images in found.values():
        assert images.shape == IMAGES.shape
        assert images.dtype == torch.uint8
    assert torch.equal(found["noise"], NOISE)
    assert all(torch.equal(image, MEAN) for image in found["constant"])


def test_a_blurred_image_keeps_its_brightness_and_nothing_else():
    found = image_statistics(blurred_and_grey(IMAGES))
    before = image_statistics(IMAGES)
    brightness, contrast, colour = (NAMES.index(name) for name in ("brightness", "contrast", "colourfulness"))
    assert abs(found[:, brightness] - before[:, brightness]).max() < 0.02
    assert (found[:, contrast] < 0.2 * before[:, contrast]).all()
    assert (found[:, colour] == 0).all()


def test_few_pixels_are_not_blurred():
    small = IMAGES[:, :, :4, :4]
    assert "blurred" not in images_of_nothing(small, small, small[0])
