"""The shape of each style, as a few strokes on a unit square (x to the right, y down).

A stroke is (kind, tone, coordinates):
    box, oval: x0 y0 x1 y1 · round: x0 y0 x1 y1 radius · poly: x y x y x y ... · line: x y x y ... width
    ring: x0 y0 x1 y1 width · arc: x0 y0 x1 y1 from to width (degrees, clockwise from the right)
Tones: m the product's colour, s its shade, l its light, d dark, w white, g leaf green.
"""

from __future__ import annotations

import random

Stroke = tuple[str, str, tuple[float, ...]]


def _strokes(text: str) -> tuple[Stroke, ...]:
    parsed = []
    for stroke in text.split(";"):
        kind, tone, *numbers = stroke.split()
        parsed.append((kind, tone, tuple(float(n) for n in numbers)))
    return tuple(parsed)


_TEXT = {
    "backpack": (
        "arc s .36 .08 .64 .4 180 360 .04;round m .24 .2 .76 .88 .16;round s .32 .52 .68 .8 .06;"
        "line d .32 .62 .68 .62 .015"
    ),
    "tote": (
        "arc s .34 .1 .66 .62 180 360 .04;poly m .2 .38 .8 .38 .74 .88 .26 .88;"
        "line s .22 .46 .78 .46 .015"
    ),
    "clutch": "round m .14 .34 .86 .72 .06;poly s .14 .36 .86 .36 .5 .58;oval l .47 .53 .53 .6",
    "suitcase": (
        "arc d .4 .1 .6 .4 180 360 .03;round m .2 .24 .8 .84 .06;line s .34 .24 .34 .84 .03;"
        "line s .66 .24 .66 .84 .03;oval d .27 .82 .35 .9;oval d .65 .82 .73 .9"
    ),
    "sneaker": (
        "poly m .12 .4 .34 .4 .52 .5 .84 .58 .9 .7 .1 .7;round w .1 .68 .91 .78 .04;"
        "line w .4 .48 .48 .42 .02;line w .48 .53 .56 .46 .02"
    ),
    "boot": (
        "poly m .3 .14 .58 .14 .58 .54 .84 .64 .86 .78 .3 .78;box d .28 .78 .88 .84;"
        "line s .3 .24 .58 .24 .03"
    ),
    "sandal": "round s .1 .66 .92 .76 .05;arc m .46 .34 .86 .98 180 360 .07;arc m .12 .4 .4 .92 180 360 .05",
    "loafer": (
        "poly m .1 .46 .32 .46 .44 .56 .8 .56 .92 .68 .92 .74 .1 .74;box d .08 .74 .3 .8;"
        "box d .3 .74 .92 .77;line s .48 .56 .66 .64 .03"
    ),
    "saucepan": (
        "round s .02 .4 .4 .46 .03;poly m .3 .36 .9 .36 .86 .76 .34 .76;oval s .3 .3 .9 .42;"
        "line l .4 .5 .42 .68 .02"
    ),
    "chef knife": (
        "poly l .06 .44 .62 .38 .62 .58 .28 .56;round m .6 .4 .94 .54 .05;oval d .68 .45 .71 .48;"
        "oval d .8 .45 .83 .48"
    ),
    "kettle": (
        "arc d .3 .1 .7 .6 180 360 .04;poly m .28 .34 .72 .34 .82 .82 .18 .82;"
        "poly m .72 .46 .94 .36 .9 .44 .76 .62;oval s .44 .28 .56 .36"
    ),
    "chopping board": (
        "round m .2 .22 .8 .9 .08;round m .42 .06 .58 .3 .06;oval w .47 .1 .53 .16;"
        "line s .3 .36 .3 .8 .01;line s .5 .36 .5 .8 .01;line s .7 .36 .7 .8 .01"
    ),
    "headphones": (
        "arc m .18 .14 .82 .86 180 360 .07;round m .12 .46 .3 .82 .07;round m .7 .46 .88 .82 .07;"
        "round d .26 .52 .32 .76 .02;round d .68 .52 .74 .76 .02"
    ),
    "speaker": "round m .26 .1 .74 .9 .05;oval d .34 .46 .66 .8;oval s .42 .55 .58 .71;oval d .42 .2 .58 .36",
    "camera": (
        "round m .12 .3 .88 .78 .06;box s .38 .2 .62 .32;oval d .34 .36 .66 .72;oval l .43 .46 .57 .6;"
        "oval w .76 .36 .82 .42"
    ),
    "laptop": "round d .2 .2 .8 .64 .03;box m .24 .24 .76 .6;poly s .1 .72 .2 .64 .8 .64 .9 .72",
    "jacket": (
        "poly m .34 .14 .66 .14 .9 .3 .84 .72 .72 .7 .72 .88 .28 .88 .28 .7 .16 .72 .1 .3;"
        "line d .5 .16 .5 .88 .015;poly s .34 .14 .5 .36 .66 .14;box s .32 .62 .44 .66;"
        "box s .56 .62 .68 .66"
    ),
    "shirt": (
        "poly m .34 .16 .66 .16 .94 .36 .82 .5 .7 .42 .7 .88 .3 .88 .3 .42 .18 .5 .06 .36;"
        "arc w .38 .04 .62 .28 0 180 .03"
    ),
    "dress": (
        "poly m .38 .12 .62 .12 .6 .42 .82 .9 .18 .9 .4 .42;line s .4 .42 .6 .42 .03;"
        "oval w .42 .06 .58 .2"
    ),
    "trousers": "poly m .3 .12 .7 .12 .76 .9 .56 .9 .5 .4 .44 .9 .24 .9;box s .3 .12 .7 .18",
    "chair": (
        "round m .28 .1 .68 .54 .06;box m .26 .52 .74 .62;line d .3 .62 .26 .92 .035;"
        "line d .7 .62 .74 .92 .035"
    ),
    "table": (
        "round m .08 .34 .92 .44 .03;line d .18 .44 .14 .86 .04;line d .82 .44 .86 .86 .04;"
        "box s .16 .44 .84 .5"
    ),
    "sofa": (
        "round m .16 .28 .84 .66 .08;round s .06 .46 .24 .76 .07;round s .76 .46 .94 .76 .07;"
        "box m .2 .58 .8 .76;line d .5 .58 .5 .74 .012;box d .14 .76 .2 .82;box d .8 .76 .86 .82"
    ),
    "shelf": (
        "box m .2 .1 .26 .9;box m .74 .1 .8 .9;box s .2 .12 .8 .17;box s .2 .38 .8 .43;"
        "box s .2 .64 .8 .69;box s .2 .85 .8 .9;box l .34 .24 .4 .38;box l .42 .27 .48 .38"
    ),
    "necklace": (
        "arc m .22 -.06 .78 .64 20 160 .03;poly s .5 .6 .6 .72 .5 .88 .4 .72;"
        "poly l .5 .64 .55 .72 .5 .78 .45 .72"
    ),
    "ring": "ring m .26 .34 .74 .86 .07;poly s .4 .24 .6 .24 .68 .34 .5 .5 .32 .34;line l .42 .3 .58 .3 .015",
    "earrings": (
        "arc d .27 .1 .39 .3 150 380 .015;arc d .61 .1 .73 .3 150 380 .015;"
        "poly m .33 .28 .43 .6 .33 .82 .23 .6;poly m .67 .28 .77 .6 .67 .82 .57 .6;"
        "oval l .31 .52 .36 .6;oval l .65 .52 .7 .6"
    ),
    "bracelet": (
        "ring m .14 .3 .86 .76 .08;oval s .44 .66 .56 .8;oval l .47 .69 .52 .74;oval s .2 .58 .29 .68;"
        "oval s .71 .58 .8 .68"
    ),
    "bouquet": (
        "line d .5 .5 .42 .9 .03;line d .5 .5 .58 .9 .03;oval m .26 .2 .5 .44;oval m .5 .2 .74 .44;"
        "oval m .38 .1 .62 .34;oval s .38 .32 .62 .56;poly w .3 .5 .7 .5 .54 .78 .46 .78;"
        "oval l .46 .18 .54 .26"
    ),
    "potted plant": (
        "oval g .2 .14 .5 .44;oval g .5 .14 .8 .44;oval g .36 .06 .64 .5;line d .5 .4 .5 .6 .02;"
        "poly m .3 .56 .7 .56 .64 .9 .36 .9;box s .28 .54 .72 .62"
    ),
    "wreath": (
        "ring g .14 .14 .86 .86 .13;oval m .42 .1 .58 .26;oval m .12 .44 .28 .6;oval m .72 .44 .88 .6;"
        "oval m .22 .72 .36 .86;oval m .64 .72 .78 .86"
    ),
    "cactus": (
        "round g .42 .14 .58 .66 .08;round g .26 .3 .36 .5 .05;box g .3 .44 .46 .5;"
        "round g .64 .24 .74 .46 .05;box g .54 .4 .7 .46;poly m .3 .62 .7 .62 .64 .9 .36 .9;"
        "oval l .46 .1 .54 .18"
    ),
    "coffee": (
        "poly m .26 .18 .74 .18 .7 .9 .3 .9;box s .26 .18 .74 .26;oval d .38 .44 .62 .72;"
        "line l .46 .46 .54 .7 .015"
    ),
    "chocolate": (
        "round m .18 .24 .82 .8 .03;line s .39 .24 .39 .8 .02;line s .61 .24 .61 .8 .02;"
        "line s .18 .43 .82 .43 .02;line s .18 .62 .82 .62 .02;poly w .18 .6 .82 .5 .82 .8 .18 .8"
    ),
    "tea": (
        "box s .3 .3 .7 .88;box m .3 .44 .7 .74;box d .3 .24 .7 .32;oval l .4 .5 .6 .68;"
        "line d .62 .1 .56 .3 .012;box l .58 .06 .68 .14"
    ),
    "honey": (
        "round m .26 .28 .74 .88 .1;box s .28 .18 .72 .3;"
        "poly l .5 .42 .64 .5 .64 .66 .5 .74 .36 .66 .36 .5"
    ),
    "tent": "poly m .5 .16 .94 .82 .06 .82;poly d .5 .4 .64 .82 .36 .82;line s .5 .16 .5 .4 .015",
    "sleeping bag": (
        "round m .28 .08 .72 .92 .2;oval d .36 .12 .64 .34;line s .5 .34 .5 .9 .02;"
        "line s .28 .56 .72 .56 .012;line s .28 .74 .72 .74 .012"
    ),
    "water bottle": (
        "box d .42 .08 .58 .18;round s .4 .16 .6 .3 .04;round m .34 .26 .66 .92 .08;"
        "box l .34 .5 .66 .66"
    ),
    "kayak": (
        "poly m .02 .56 .3 .42 .7 .42 .98 .56 .7 .7 .3 .7;oval d .38 .48 .62 .62;"
        "line s .2 .2 .8 .88 .02;oval s .14 .12 .26 .28"
    ),
    "ball": (
        "oval m .16 .16 .84 .84;arc s .02 .16 .5 .84 290 70 .02;arc s .5 .16 .98 .84 110 250 .02;"
        "line s .5 .16 .5 .84 .02"
    ),
    "dumbbell": (
        "box d .3 .46 .7 .54;round m .12 .3 .26 .7 .04;round m .74 .3 .88 .7 .04;"
        "round s .24 .24 .34 .76 .04;round s .66 .24 .76 .76 .04"
    ),
    "racket": (
        "ring m .28 .06 .72 .58 .05;line l .4 .12 .4 .54 .01;line l .5 .08 .5 .56 .01;"
        "line l .6 .12 .6 .54 .01;line l .3 .24 .7 .24 .01;line l .3 .38 .7 .38 .01;"
        "line s .5 .58 .5 .94 .06"
    ),
    "yoga mat": "box m .24 .4 .94 .68;oval s .1 .3 .38 .7;oval l .17 .4 .31 .6;oval s .22 .46 .27 .54",
    "perfume": "box d .42 .1 .58 .22;box s .45 .22 .55 .32;round m .24 .32 .76 .88 .06;box l .34 .5 .66 .7",
    "lipstick": "box d .36 .54 .64 .92;box l .39 .44 .61 .54;poly m .4 .44 .6 .44 .6 .18 .4 .3",
    "soap": (
        "round m .14 .38 .86 .76 .14;round l .26 .48 .74 .64 .08;oval w .6 .18 .7 .28;"
        "oval w .72 .26 .78 .32;oval w .5 .26 .56 .32"
    ),
    "hairbrush": (
        "oval m .34 .06 .66 .56;oval s .4 .12 .6 .5;round m .45 .52 .55 .94 .05;"
        "line d .44 .2 .56 .2 .015;line d .44 .3 .56 .3 .015;line d .44 .4 .56 .4 .015"
    ),
    "table lamp": "poly m .32 .14 .68 .14 .8 .5 .2 .5;line d .5 .5 .5 .8 .035;oval s .32 .78 .68 .88",
    "pendant lamp": "line d .5 0 .5 .36 .015;poly m .42 .34 .58 .34 .86 .68 .14 .68;oval l .4 .62 .6 .78",
    "floor lamp": "poly m .34 .06 .66 .06 .74 .3 .26 .3;line d .5 .3 .5 .9 .025;oval s .34 .88 .66 .94",
    "lantern": (
        "arc d .38 .06 .62 .3 180 360 .02;poly s .3 .3 .5 .16 .7 .3;box m .3 .3 .7 .84;"
        "box l .37 .38 .63 .76;oval m .45 .5 .55 .72;box s .26 .84 .74 .9"
    ),
    "hammer": "line m .5 .3 .5 .92 .09;round s .22 .14 .72 .34 .03;poly s .72 .14 .9 .3 .72 .34",
    "screwdriver": (
        "round m .42 .5 .58 .94 .06;line d .5 .16 .5 .5 .03;poly d .46 .16 .54 .16 .52 .06 .48 .06;"
        "line s .47 .56 .47 .88 .015"
    ),
    "saw": (
        "poly l .04 .5 .66 .36 .66 .58 .04 .58;line d .04 .58 .66 .58 .02;round m .62 .32 .92 .66 .08;"
        "round w .7 .42 .84 .56 .05"
    ),
    "drill": (
        "round m .2 .2 .76 .44 .06;box d .06 .3 .22 .34;poly m .5 .4 .7 .4 .76 .74 .56 .74;"
        "round s .48 .72 .84 .88 .03"
    ),
    "guitar": (
        "oval m .28 .54 .72 .94;oval m .33 .38 .67 .66;oval d .42 .58 .58 .74;box s .46 .08 .54 .6;"
        "box d .43 .02 .57 .12"
    ),
    "drum": (
        "poly m .16 .36 .84 .36 .84 .78 .16 .78;oval m .16 .68 .84 .88;oval l .16 .24 .84 .48;"
        "line s .16 .4 .38 .78 .015;line s .38 .78 .6 .46 .015;line s .6 .46 .84 .78 .015"
    ),
    "piano": (
        "round m .08 .2 .92 .78 .03;box w .12 .5 .88 .72;box d .2 .5 .25 .62;box d .34 .5 .39 .62;"
        "box d .52 .5 .57 .62;box d .66 .5 .71 .62;line s .3 .5 .3 .72 .008;"
        "line s .46 .5 .46 .72 .008;line s .62 .5 .62 .72 .008;box s .14 .78 .2 .92;"
        "box s .8 .78 .86 .92"
    ),
    "flute": (
        "line m .08 .82 .92 .18 .07;oval d .3 .6 .35 .65;oval d .42 .51 .47 .56;"
        "oval d .54 .42 .59 .47;oval d .66 .33 .71 .38;line s .14 .77 .2 .73 .08"
    ),
    "scarf": (
        "round m .2 .16 .8 .4 .12;poly m .28 .34 .46 .36 .42 .88 .24 .88;"
        "poly s .54 .36 .72 .34 .76 .74 .58 .76;line d .28 .88 .28 .94 .015;"
        "line d .36 .88 .36 .94 .015"
    ),
    "hat": (
        "oval s .06 .6 .94 .78;poly m .28 .3 .4 .22 .6 .22 .72 .3 .76 .68 .24 .68;"
        "line d .26 .6 .74 .6 .05"
    ),
    "belt": "ring m .12 .28 .88 .74 .09;box l .4 .62 .6 .84;box d .44 .67 .56 .79",
    "wristwatch": (
        "box s .42 .04 .58 .96;oval m .24 .26 .76 .74;oval w .31 .33 .69 .67;line d .5 .5 .5 .38 .02;"
        "line d .5 .5 .6 .54 .02"
    ),
    "mug": "ring s .58 .36 .9 .72 .06;round m .2 .24 .7 .84 .05;oval d .2 .18 .7 .3",
    "plate": "oval m .08 .24 .92 .8;oval l .2 .32 .8 .72;oval m .26 .36 .74 .68",
    "bowl": "poly m .1 .42 .9 .42 .72 .8 .28 .8;oval s .1 .32 .9 .52;box m .38 .8 .62 .86",
    "carafe": (
        "poly m .42 .08 .58 .08 .56 .4 .76 .88 .24 .88 .44 .4;poly l .38 .6 .62 .6 .7 .84 .3 .84;"
        "oval s .4 .05 .6 .11"
    ),
    "cushion": "poly m .14 .16 .5 .24 .86 .16 .78 .5 .86 .84 .5 .76 .14 .84 .22 .5;oval s .46 .46 .54 .54",
    "rug": (
        "box m .1 .28 .9 .74;box s .16 .34 .84 .68;box m .22 .4 .78 .62;line d .1 .28 .1 .74 .02;"
        "line d .9 .28 .9 .74 .02"
    ),
    "blanket": (
        "round m .18 .24 .82 .42 .06;round s .18 .4 .82 .58 .06;round m .18 .56 .82 .74 .06;"
        "line d .26 .74 .26 .82 .012;line d .5 .74 .5 .82 .012;line d .74 .74 .74 .82 .012"
    ),
    "curtain": (
        "line d .06 .12 .94 .12 .03;poly m .1 .12 .46 .12 .3 .56 .34 .92 .1 .92;"
        "poly m .54 .12 .9 .12 .9 .92 .66 .92 .7 .56;line s .2 .14 .18 .9 .015;"
        "line s .8 .14 .82 .9 .015"
    ),
    "teddy bear": (
        "oval m .24 .06 .42 .24;oval m .58 .06 .76 .24;oval m .3 .1 .7 .46;oval m .26 .42 .74 .92;"
        "oval l .38 .52 .62 .82;oval l .42 .28 .58 .42;oval d .4 .22 .45 .27;oval d .55 .22 .6 .27"
    ),
    "kite": (
        "poly m .5 .06 .8 .38 .5 .78 .2 .38;line s .5 .06 .5 .78 .015;line s .2 .38 .8 .38 .015;"
        "line d .5 .78 .6 .86 .52 .96 .012"
    ),
    "building blocks": (
        "box m .12 .54 .46 .88;box s .5 .54 .84 .88;box l .3 .2 .64 .54;oval d .24 .64 .36 .78;"
        "poly d .67 .62 .76 .8 .58 .8"
    ),
    "toy train": (
        "box m .4 .24 .84 .7;box l .52 .32 .74 .5;round m .12 .42 .5 .7 .06;box s .18 .28 .28 .44;"
        "oval d .14 .64 .34 .84;oval d .42 .64 .62 .84;oval d .68 .64 .88 .84"
    ),
    "notebook": (
        "round m .24 .12 .8 .9 .03;box s .24 .12 .32 .9;box w .42 .26 .7 .4;"
        "line d .46 .33 .66 .33 .012"
    ),
    "cookbook": (
        "round m .2 .14 .8 .88 .03;oval w .36 .3 .64 .58;line s .42 .44 .58 .44 .03;"
        "box w .32 .68 .68 .74;box s .2 .14 .25 .88"
    ),
    "travel guide": (
        "round m .26 .1 .76 .92 .03;oval l .36 .28 .66 .58;line s .36 .43 .66 .43 .012;"
        "line s .51 .28 .51 .58 .012;box w .34 .7 .68 .78"
    ),
    "novel": (
        "poly m .5 .26 .9 .18 .9 .78 .5 .86;poly s .5 .26 .1 .18 .1 .78 .5 .86;"
        "line w .16 .32 .44 .37 .015;line w .16 .44 .44 .49 .015;line w .56 .37 .84 .32 .015;"
        "line w .56 .49 .84 .44 .015"
    ),
}  # fmt: skip

SILHOUETTES: dict[str, tuple[Stroke, ...]] = {style: _strokes(text) for style, text in _TEXT.items()}


def silhouette(style: str) -> tuple[Stroke, ...]:
    """The style's strokes; a style that has none of its own gets a symmetric shape made from its name."""
    known = SILHOUETTES.get(style)
    return known if known is not None else _from_name(style)


def _from_name(style: str) -> tuple[Stroke, ...]:
    dice = random.Random(style)  # noqa: S311 - a picture, not a secret
    steps = dice.randint(3, 6)
    right = [(0.5 + dice.uniform(0.12, 0.4), 0.12 + 0.76 * n / (steps - 1)) for n in range(steps)]
    outline = [*right, *((1 - x, y) for x, y in reversed(right))]
    strokes: list[Stroke] = [("poly", "m", tuple(v for point in outline for v in point))]
    for _ in range(dice.randint(1, 3)):
        half, middle, height = dice.uniform(0.06, 0.2), dice.uniform(0.25, 0.75), dice.uniform(0.04, 0.14)
        kind = dice.choice(["oval", "box"])
        box = (0.5 - half, middle - height, 0.5 + half, middle + height)
        strokes.append((kind, dice.choice("sld"), box))
    return tuple(strokes)
