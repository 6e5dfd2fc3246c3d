"""What the tests of the page ask and index."""

from __future__ import annotations

from html import escape

_TOPICS = {
    "bread": (
        "Baking bread",
        "Sourdough needs flour, water, salt and time. Knead the dough until it is smooth, let it rise, then bake it in a very hot oven.",
    ),
    "bicycles": (
        "Repairing a bicycle",
        "To mend a flat tyre take the wheel off, find the hole in the inner tube with water, roughen the rubber and glue a patch on it.",
    ),
    "stars": (
        "Watching stars",
        "A small telescope shows the rings of Saturn, the moons of Jupiter and many double stars. Dark skies far from cities matter most.",
    ),
    "taxes": (
        "Paying taxes",
        "Income tax is due once a year. Keep receipts of all expenses, fill in the form and send it to the tax office before the deadline.",
    ),
    "cats": (
        "Keeping cats",
        "A cat sleeps most of the day, wants a clean box and hunts toys at dusk. Vaccinate kittens against cat flu.",
    ),
    "python": (
        "Asynchronous tasks",
        "asyncio.gather runs several coroutines at the same time and waits for all of them. A task that is cancelled raises CancelledError.",
    ),
    "garden": (
        "Growing tomatoes",
        "Tomatoes want sun, warmth and much water at the roots. Pinch out side shoots and tie the plants to stakes.",
    ),
    "chess": (
        "Chess openings",
        "In the opening bring out knights and bishops, castle early and fight for the squares in the centre of the board.",
    ),
    "volcano": (
        "Volcanoes",
        "Magma rises through the crust and erupts as lava and ash. Shield volcanoes have gentle slopes because their lava flows far.",
    ),
    "music": (
        "Tuning a guitar",
        "Tune the six strings to E, A, D, G, B and E. Turn the peg slowly and compare the pitch with a tuning fork.",
    ),
    "law": (
        "Renting a flat",
        "The tenant pays rent each month and a deposit. The landlord must repair the heating; notice is three months.",
    ),
}

SCRIPT = "<img src=x onerror=\"console.error('ran')\"><script>console.error('ran')</script>"

PAGES = {
    f"{name}.html": f"<!doctype html><meta charset=utf-8><title>{title}</title><main><h1 id=top>{title}</h1><p>{text}</p></main>"
    for name, (title, text) in _TOPICS.items()
} | {
    "markup.html": "<!doctype html><meta charset=utf-8><title>Markup &amp; more</title><main><h1 id=top>Dangerous markup</h1>"
    f"<p>How to write markup that runs a script by an error of an image: {escape(SCRIPT)}</p></main>"
}

QUESTIONS = {
    "how do I fix a puncture": "bicycles.html",
    "run two coroutines concurrently": "python.html",
    "which planets can I see at night": "stars.html",
    "when must I hand in my declaration of income": "taxes.html",
    "why does the kitten sleep all day": "cats.html",
    "who pays when the radiator is broken": "law.html",
}

SCRIPTS = [
    "The quick brown fox jumps over the lazy dog.",
    "naïve café Ångström ÀÉÎÕÜ œuvre ß ẞ ﬁ ﬂ İstanbul ıI ſ",
    "Здравствуйте, мир! Ёлка й Й ї",
    "Γειά σου Κόσμε, ΟΔΟΣ ὀδυσσεύς ΐ",
    "שָׁלוֹם עולם مَرْحَبًا بالعالم ٱلسَّلَامُ",
    "नमस्ते दुनिया, क्षत्रिय কেমন আছেন ਸਤਿ தமிழ் తెలుగు ಕನ್ನಡ മലയാളം",
    "สวัสดีชาวโลก ສະບາຍດີ ជំរាបសួរ မင်္ဂလာပါ",
    "你好，世界。漢字 仮名 ひらがな カタカナ がギぱﾊﾟ 𠀀𪚥 豈更車",
    "안녕하세요 세계 각 갂 힣 ᄀᆞ",
    "👩‍👩‍👧‍👦 emoji 🇩🇪 ✊🏽 e\u0301 a\u0308\u0323 \u200d\u200b\ufeff\u00ad",
    "tabs\tand\nlines\r\nand\u00a0spaces\u3000and\u2028more\u0085end",
    "snake_case camelCase x86-64 3.14159 1,000,000 C++ a@b.org https://example.org/?q=1&r=%20#x",
    "[CLS] special [SEP] tokens [MASK][PAD] [UNK] [cls]",
    "ሰላም ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ⵜⴰⵎⴰⵣⵉⵖⵜ 𐌰𐌱 ꯃꯤꯇꯩ ᱥᱟᱱᱛᱟᱲᱤ",
    "ℵ ∑ ∫ √ ≠ ½ Ⅷ ™ № ㎏ ｆｕｌｌ ＷＩＤＴＨ 𝒜𝓫𝔠",
    "a" * 100 + " " + "b" * 101 + " " + "é" * 60 + "é" * 101,
    "",
    " \n ",
    "\ufffd\u0000\u0001 control",
]
