"""Pairs of sentences from a small grammar, with what the first says of the second.

A sentence tells who does what to what, and where. Each of these parts of the first sentence is the
same as, or special for, or general for, or excludes that part of the second; both are taken to tell
of one scene, as in SNLI (Bowman et al., "A large annotated corpus for learning natural language
inference", 2015). If a part excludes its counterpart, the second sentence is a contradiction; if
all are the same or special, it follows; else it may be true or not. With "not" in it, what follows
and what contradicts change places.

Of each kind of noun some occur in no sentence unless `unseen` is asked for: then each pair has one
of them.
"""

import random

LABELS = ["entailment", "neutral", "contradiction"]

# Kinds of nouns; of each kind the last ones are kept back.
NOUNS = {
    "animal": "dog cat horse cow sheep goat rabbit elephant tiger bear wolf | monkey pig lion",
    "child": "boy girl |",
    "adult": "doctor teacher farmer nurse soldier lawyer cook | sailor painter barber",
    "fruit": "apple banana orange lemon cherry grape mango | peach pear strawberry",
    "instrument": "guitar piano violin flute trumpet drum clarinet | cello saxophone harp",
    "vehicle": "car truck bus bicycle tractor van motorcycle | taxi scooter jeep",
}
PLACES = {
    "inside": "kitchen office library bedroom hall | classroom basement",
    "outside": "park garden street forest field | beach meadow",
}
ABOVE = {"child": "person", "adult": "person", "fruit": "food"}  # what kinds are again
ADJECTIVES = [("tall", "short"), ("young", "old"), ("happy", "sad"), ("thin", "fat")]
THINGS = [("big", "small"), ("new", "old"), ("red", "green")]
LIVING = ["animal", "child", "adult"]
ALONE = ["sleeping", "running", "walking", "swimming", "dancing", "sitting", "jumping", "waiting"]
# What is done, how it is said of what it is done to, and to which kinds.
DONE = {
    "chasing": ("chased", LIVING),
    "watching": ("watched", LIVING),
    "feeding": ("fed", ["animal", "child"]),
    "eating": ("eaten", ["fruit"]),
    "washing": ("washed", ["fruit", "vehicle", "animal"]),
    "buying": ("bought", ["fruit", "instrument", "vehicle"]),
    "playing": ("played", ["instrument"]),
    "driving": ("driven", ["vehicle"]),
    "repairing": ("repaired", ["instrument", "vehicle"]),
}
PEOPLE_ONLY = {"feeding", "washing", "buying", "playing", "driving", "repairing"}


def _parts(words):
    return [part.split() for part in words.split("|")]


_KINDS = {**NOUNS, **PLACES}.items()
KIND = {noun: kind for kind, nouns in _KINDS for part in _parts(nouns) for noun in part}
UNSEEN = {noun for _, nouns in _KINDS for noun in _parts(nouns)[1]}


def general(word):
    """The more general words for a noun, place or kind, from near to far."""
    found = []
    while word := KIND.get(word) or ABOVE.get(word):
        found.append(word)
    return found


def relation(one, other):
    """What a part of a sentence says of the same part of another: "same", "special", "general" or
    "excludes". None is a part that is not there, which is general for all."""
    if one == other:
        return "same"
    if other is None or other in general(one):
        return "special"
    if one is None or one in general(other):
        return "general"
    return "excludes"


def described(one, other, pairs):
    """The same of adjectives: those of one scale exclude each other, others are independent."""
    if one == other or other is None:
        return "same" if one == other else "special"
    return "excludes" if (one, other) in pairs or (other, one) in pairs else "general"


class Writer:
    """Writes scenes, dictionaries of their parts, and changes them."""

    def __init__(self, seed, unseen):
        self.random = random.Random(seed)
        self.unseen = unseen

    def noun(self, kind):
        seen, kept_back = _parts(PLACES.get(kind) or NOUNS[kind])
        unseen = kept_back and self.unseen and self.random.random() < 0.5
        return self.random.choice(kept_back if unseen else seen)

    def scene(self):
        choice = self.random.choice
        verb = choice(ALONE + list(DONE)) if self.random.random() < 0.5 else choice(list(DONE))
        kinds = ["child", "adult"] if verb in PEOPLE_ONLY else LIVING
        scene = {"who": self.noun(choice(kinds)), "verb": verb}
        scene["whom"] = self.noun(choice(DONE[verb][1])) if verb in DONE else None
        scene["where"] = self.noun(choice(["inside", "outside"]))
        scene["how"], scene["what"] = self.adjective("who", scene), self.adjective("whom", scene)
        for name in ("how", "what", "where"):
            if self.random.random() < 0.4:
                scene[name] = None
        return scene

    def adjective(self, part, scene):
        """One that fits the noun of a part."""
        noun = scene[part]
        if noun is None:
            return None
        living = KIND.get(noun, noun) in [*LIVING, "person"]
        return self.random.choice(self.random.choice(ADJECTIVES if living else THINGS))

    def like(self, part, scene):
        """Kinds of nouns that this part of a scene may have as well."""
        if part == "where":
            return ["inside", "outside"]
        return LIVING if part == "who" else DONE[scene["verb"]][1]

    def changed(self, scene):
        """A scene with some parts changed."""
        other = dict(scene)
        for part in self.random.sample(sorted(scene), self.random.choice([1, 1, 2, 2, 3])):
            value, chance = scene[part], self.random.random()
            if part == "verb":
                same = [v for v in DONE if scene["whom"] and KIND.get(scene["whom"]) in DONE[v][1]]
                if chance < 0.5:
                    other["verb"] = self.random.choice(same if scene["whom"] else ALONE)
            elif part in ("how", "what"):
                noun = "who" if part == "how" else "whom"
                other[part] = None if chance < 0.5 else self.adjective(noun, other)
            elif value is None:
                if part == "where":
                    other["where"] = self.noun(self.random.choice(["inside", "outside"]))
            elif chance < 0.5:
                other[part] = self.random.choice(general(value))
            elif part == "where" and chance < 0.7:
                other["where"] = None
            else:
                other[part] = self.noun(self.random.choice([KIND[value], *self.like(part, scene)]))
        if KIND.get(scene["whom"]) in LIVING and self.random.random() < 0.05:
            other["who"], other["whom"] = scene["whom"], scene["who"]
            other["how"], other["what"] = scene["what"], scene["how"]
        return other

    def text(self, scene, negative=False):
        """The scene in words; there are several ways to say it."""
        not_ = " not" if negative else ""
        who = phrase(scene["how"], scene["who"])
        where = scene["where"]
        where = where if where in ("inside", "outside", None) else f"in the {where}"
        whom = scene["whom"] and phrase(scene["what"], scene["whom"])
        verb, way = scene["verb"], self.random.random()
        if whom and way < 0.3:
            sentence = f"{whom} is{not_} being {DONE[verb][0]} by {who}"
        else:
            sentence = f"{who} is{not_} {verb}" + (f" {whom}" if whom else "")
            if way > 0.85 and not negative:
                sentence = "there is " + sentence.replace(" is ", " who is ", 1)
        if where:
            sentence = f"{where} , {sentence}" if way > 0.6 and way < 0.7 else f"{sentence} {where}"
        return sentence + " ."


def phrase(adjective, noun):
    """A noun with its article."""
    if noun == "food":
        return f"some {adjective} food" if adjective else "some food"
    words = f"{adjective} {noun}" if adjective else noun
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def label(scene, other, negative=False):
    """What a scene says of another one, as a number of LABELS."""
    relations = [relation(scene[part], other[part]) for part in ("who", "verb", "whom", "where")]
    relations.append(described(scene["how"], other["how"], ADJECTIVES))
    relations.append(described(scene["what"], other["what"], THINGS + ADJECTIVES))
    if "excludes" in relations:
        answer = 2
    else:
        answer = 1 if "general" in relations else 0
    return 2 - answer if negative else answer


def pairs(count, seed, unseen=False):
    """`count` times premise, hypothesis, and the number of their label; labels are even."""
    writer, found, wanted = Writer(seed, unseen), [], 0
    while len(found) < count:
        scene = writer.scene()
        other = writer.changed(scene)
        negative = writer.random.random() < 0.15
        if negative and relation(scene["who"], other["who"]) == "excludes":
            continue
        words = set(scene.values()) | set(other.values())
        if label(scene, other, negative) != wanted or bool(words & UNSEEN) != unseen:
            continue
        found.append((writer.text(scene), writer.text(other, negative), wanted))
        wanted = (wanted + 1) % 3
    writer.random.shuffle(found)
    return found
