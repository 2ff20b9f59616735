"""Arrays of images and labels, as people have them, in the one form that a data set has.

What has one meaning is converted, and a line says what was taken for what. What has two is refused, and both are named.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from aebench.data.raw_dataset import Images, Labels, check_classes, check_size, size_in_words
from aebench.errors import DataError, plain

Log = Callable[[str], None]
# White, black being 0: of shares, and of whole numbers of 8 and 16 bits.
_WHITES = (1, 255, 65535)
# So many images are converted at once.
_BLOCK = 1024
# So many labels are shown in a line.
_SHOWN = 5


def images(path: Path, arrays: Mapping[str, NDArray[Any]], log: Log) -> dict[str, Images]:
    """As uint8 `[N, C, H, W]`, C 1 or 3, 0 (black) to 255; all arrays are of one scale.

    Args:
        path: the file, for messages.
        arrays: by their names in the file.
        log: gets a line for each thing that was taken for another.

    Raises:
        DataError: they are no images, or may mean two things.
    """
    laid_out = {name: _channels_first(path, name, array, log) for name, array in arrays.items()}
    shapes = sorted({(min(array.shape[1], 3), *array.shape[2:]) for array in laid_out.values()})
    if len(shapes) > 1:
        raise DataError(f"{path}: found images of {' and '.join(map(size_in_words, shapes))}, allowed: one size")
    colours = {name: array[:, :3] for name, array in laid_out.items()}
    white = _white(path, colours, log)
    for name, array in laid_out.items():
        if array.shape[1] == 4 and not (array[:, 3] == white).all():
            raise DataError(f"{path}: {name}: found transparent pixels, allowed: opaque ones")
    return {name: _to_bytes(array, white) for name, array in colours.items()}


def _channels_first(path: Path, name: str, array: NDArray[Any], log: Log) -> NDArray[Any]:
    """As `[N, C, H, W]`, C 1, 3 or 4."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4:
        # Three channels or one are likelier than four, and in front they are likelier than behind.
        fits = [axis for channels in ((1, 3), (4,)) for axis in (1, 3) if array.shape[axis] in channels]
        if len(fits) > 1:
            log(
                f"{name}: {size_in_words(array.shape)} is taken as {'[N, C, H, W]' if fits[0] == 1 else '[N, H, W, C]'}"
            )
        if fits and fits[0] == 3:
            array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3, 4):
        raise DataError(
            f"{path}: {name}: found {size_in_words(array.shape)}, "
            "allowed: [N, H, W], [N, C, H, W] or [N, H, W, C] with C 1 or 3, or 4 where all is opaque"
        )
    if array.size == 0:
        raise DataError(f"{path}: {name}: found no images, allowed: at least one")
    check_size(path, array.shape[1:])
    return array


def _white(path: Path, arrays: Mapping[str, NDArray[Any]], log: Log) -> int:
    """The number that is white.

    It is the smallest of `_WHITES` that no pixel exceeds, if some pixel needs its highest bit. Otherwise the images may
    be dark or of another scale, and only the type uint8 says which.
    """
    types = sorted({str(array.dtype) for array in arrays.values()})
    described = f"{', '.join(arrays)}: {{}} of type {', '.join(types)}"
    allowed = "allowed: bool, numbers from 0 to 1, or whole ones from 0 to 255 or, with 16 bits, to 65535"
    if any(array.dtype.kind not in "buif" for array in arrays.values()):
        raise DataError(f"{path}: {described.format('found values')}, {allowed}")
    low = min(float(array.min()) for array in arrays.values())
    high = max(float(array.max()) for array in arrays.values())
    whole = all(array.dtype.kind != "f" or all(map(_whole, _blocks(array))) for array in arrays.values())
    if not (low >= 0 and high <= (_WHITES[-1] if whole else 1)):  # which numbers that are none fail too
        numbers = f"found {'whole ' if whole else ''}numbers from {low:g} to {high:g}"
        raise DataError(f"{path}: {described.format(numbers)}, {allowed}")
    if types == ["uint8"] and high != 1:
        return 255
    white = next(white for white in _WHITES if high <= white)
    if white > 1 and high <= white // 2:
        numbers = f"found whole numbers up to {high:g}"
        raise DataError(
            f"{path}: {described.format(numbers)}, of which white may be {high:g} or {white}; "
            f"divide them by the one that is white; {allowed}"
        )
    log(f"{described.format('numbers')} are taken as 0 (black) to {white} (white)")
    return white


def _to_bytes(array: NDArray[Any], white: int) -> Images:
    if array.dtype == np.uint8 and white == 255:
        return np.ascontiguousarray(array)
    content = np.empty(array.shape, np.uint8)
    for source, target in zip(_blocks(array), _blocks(content), strict=True):
        target[:] = np.rint(source * (255 / white))
    return content


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (array[first : first + _BLOCK] for first in range(0, len(array), _BLOCK))


def _whole(array: NDArray[Any]) -> bool:
    return bool((np.isfinite(array) & (array == np.rint(array))).all())


def labels(
    path: Path, arrays: Mapping[str, NDArray[Any]], named: NDArray[Any] | None, images: Mapping[str, int], log: Log
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """As int64 `[N]` from 0, and the names of the classes in their order.

    Args:
        path: the file, for messages.
        arrays: by their names in the file: whole numbers or text, `[N]`, `[N, 1]` or `[1, N]`, or one-hot `[N, C]`.
        named: the names of the classes; without them they are called as the labels are.
        images: how many images there are of each array.
        log: gets a line for each thing that was taken for another.

    Raises:
        DataError: they are no labels, or may mean two things.
    """
    plain = {name: _plain(path, name, array, images[name], log) for name, array in arrays.items()}
    if len({array.dtype.kind for array in plain.values()}) > 1:
        raise DataError(f"{path}: {', '.join(arrays)}: found numbers and text, allowed: one of them")
    values = np.unique(np.concatenate(list(plain.values())))
    is_text = values.dtype.kind == "U"
    if named is None:
        classes, known = tuple(map(str, values)), values
        if is_text or not np.array_equal(values, np.arange(len(values))):
            log(f"{', '.join(arrays)}: found {_few(values)}, which are taken as {len(values)} classes of these names")
    else:
        known = _text(path, "classes", named) if named.ndim == 1 and named.dtype.kind in "US" else np.array([])
        if not known.size:
            raise DataError(f"{path}: classes: found {named.dtype} of {named.ndim} dimensions, allowed: a list of text")
        classes = tuple(map(str, known))
        if not is_text:
            known = np.arange(len(classes))
            if len(values) == len(classes) and not np.isin(values, known).all():
                log(f"{', '.join(arrays)}: found {_few(values)}, which are taken as the classes in their order")
                known = values
    check_classes(path, classes)
    for value in values[~np.isin(values, known)]:
        allowed = "one of classes" if is_text else f"0 to {len(classes) - 1}, one for each class"
        raise DataError(f"{path}: found the label {value!s:.60}, allowed: {allowed}")
    order = np.argsort(known)
    return {name: order[np.searchsorted(known, array, sorter=order)] for name, array in plain.items()}, classes


def _plain(path: Path, name: str, array: NDArray[Any], images: int, log: Log) -> NDArray[Any]:
    """Whole numbers int64 or text, `[N]`."""
    if array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.ndim == 2 and array.dtype.kind in "buif" and _one_hot(array):
        log(f"{name}: {size_in_words(array.shape)} is taken as one-hot, a column a class")
        array = array.argmax(1)
    if array.shape != (images,):
        raise DataError(
            f"{path}: {name}: found {size_in_words(array.shape)}, allowed: one for each of the {images} images"
        )
    if array.dtype.kind in "US":
        return _text(path, name, array)
    if array.dtype.kind not in "buif" or (array.dtype.kind == "f" and not _whole(array)):
        raise DataError(f"{path}: {name}: found values of type {array.dtype}, allowed: whole numbers, or text")
    low, high = array.min(), array.max()
    if low < 0:
        raise DataError(
            f"{path}: {name}: found the label {low:g}, which may be a class or mean that there is none, allowed: 0 or "
            "more; leave such images out, or number the class anew"
        )
    if high >= 2**53:
        raise DataError(f"{path}: {name}: found the label {high:g}, allowed: less than 2^53")
    if array.dtype.kind in "bf":
        log(f"{name}: values of type {array.dtype} are taken as the whole numbers {low:g} to {high:g}")
    return array.astype(np.int64)


def _one_hot(array: NDArray[Any]) -> bool:
    return bool((((array == 0) | (array == 1)).all(1) & (array.sum(1) == 1)).all())


def _text(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    try:
        values = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {name}: found bytes that are no text in UTF-8 ({plain(error)})") from None
    return np.array([normalize("NFC", value) for value in values])


def _few(values: NDArray[Any]) -> str:
    shown = [f"{value!s:.40}" for value in values[:_SHOWN]]
    return ", ".join([*shown, *(["…"] if len(values) > _SHOWN else [])])
