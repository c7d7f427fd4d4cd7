"""Compares docs/protocol.md with src/wire: protocol.py ROOT prints each difference, one a line.

The tables of frames, channels and messages have to name what the enums of frame.h and msg.h name, with the same numbers, in
rising order; each message's fields have to be those of its table in msg.c, in its order, with kind and maximum.
"""
import re
import sys

# Read and written without a table, because a field that is absent differs there from one that is 0.
BY_HAND = {"STOP": [(1, "u64")]}


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def enum(text, name, prefix):
    body = re.search(r"enum %s \{(.*?)\};" % name, without_comments(text), re.S).group(1)
    return [(int(n), m) for m, n in re.findall(prefix + r"([A-Z_]+) = (\d+)", body)]


def defines(texts):
    return {n: v for t in texts for n, v in re.findall(r"#define (\w+)\s+(.+)", without_comments(t))}


def value(expression, known):
    """The number that an array's size or a field's number is."""
    while re.search(r"[A-Za-z_]{2,}", expression):
        bigger = re.sub(r"[A-Za-z_]\w+", lambda m: known.get(m.group(0), "?"), expression)
        if "?" in bigger:
            return None
        expression = bigger
    return eval(re.sub(r"(?<=\d)u\b", "", expression), {"__builtins__": {}})  # digits and operators only


def array_sizes(header, known):
    sizes = {}
    for name, body in re.findall(r"struct (msg_\w+) \{(.*?)\n\};", without_comments(header), re.S):
        for member, size in re.findall(r"(\w+)\[([^\]]+)\]", body):
            sizes[name, member] = value(size, known)
    return sizes


def code_messages(root):
    """Number -> (name, [(field, kind)])"""
    header = read(root + "/src/wire/msg.h") + read(root + "/src/wire/msg_build.h")
    source = without_comments(read(root + "/src/wire/msg.c"))
    known = defines([header, read(root + "/src/base/steps.h"), source])
    sizes = array_sizes(header, known)

    def field(kind, number, struct, member):
        number, size = value(number, known), sizes.get((struct, member))
        words = {"U64": "u64", "STATUS": "status", "BOOL": "bool", "ALLOC": "text", "LIST": "list",
                 "TEXT": "text %s" % (size and size - 1), "BYTES": "bytes %s" % size}
        return number, words[kind]

    def fields(text):
        return [field(*f) for f in re.findall(r"F_([A-Z0-9]+)\((\w+), (\w+), (\w+)", text)]

    tables = {"MSG_" + t: fields(f) for t, f in
              re.findall(r"^MESSAGE(?:_OWNING)?\(\w+, MSG_(\w+),(.*?)\)$", source, re.M | re.S)}
    shared = fields(re.search(r"transfer_fields\[\] = \{(.*?)\};", source, re.S).group(1))
    tables["MSG_PUSH"] = tables["MSG_PULL"] = shared
    return {n: (m, tables.get("MSG_" + m, BY_HAND.get(m, []))) for n, m in enum(header, "msg_type", "MSG_")}


def rows(text, heading):
    part = text.split("\n" + heading + "\n", 1)[1]
    for line in re.split(r"\n#+ ", part, maxsplit=1)[0].split("\n"):
        if line.startswith("|"):
            yield [c.strip() for c in line.strip("|").split("|")]


def numbers(cell):
    first, _, last = cell.partition(" to ")
    return list(range(int(first), int(last) + 1)) if last else [int(n) for n in cell.split(",")]


def doc_messages(text):
    messages, order = {}, []
    for heading in ("### On stream 0, from the guest", "### On stream 0, from the host", "### Requests (OPEN)",
                    "### Within a stream (DATA on channel 0)"):
        for row in rows(text, heading):
            if row[0].isdigit():
                number = int(row[0])
                order.append(number)
                messages[number] = (row[1], [])
            if row[2:3] and re.match(r"\d", row[2]):
                fields, kinds = numbers(row[2]), row[3]
                maxima = re.findall(r"\d+", kinds.replace("u64", ""))
                word = kinds.split()[0]
                for i, f in enumerate(fields):
                    maximum = " " + maxima[min(i, len(maxima) - 1)] if maxima else ""
                    messages[number][1].append((f, word + maximum))
    return messages, order


def small_tables(root, doc):
    """Frame types and channels."""
    header = read(root + "/src/wire/frame.h")
    seen = [(int(r[0]), r[1]) for r in rows(doc, "## Frames") if r[0].isdigit() and r[1].isupper()]
    yield "frame types and channels", seen, enum(header, "frame_type", "FRAME_") + enum(header, "frame_channel", "CHAN_")


def differences(root):
    doc = read(root + "/docs/protocol.md")
    for what, told, coded in small_tables(root, doc):
        if told != coded:
            yield f"{what}: docs/protocol.md has {told}, the code {coded}"
    code = code_messages(root)
    told, order = doc_messages(doc)
    if order != sorted(order):
        yield f"the messages of docs/protocol.md do not rise: {order}"
    if list(code) != sorted(code):
        yield f"the messages of msg.h do not rise: {list(code)}"
    for n in sorted(set(code) | set(told)):
        if n not in told or n not in code:
            yield f"message {n} ({(code.get(n) or told.get(n))[0]}) is in one of them alone"
        elif told[n][0] != code[n][0]:
            yield f"message {n}: docs/protocol.md calls it {told[n][0]}, msg.h {code[n][0]}"
        elif told[n][1] != code[n][1]:
            yield f"message {n} ({code[n][0]}): docs/protocol.md has fields {told[n][1]}, msg.c {code[n][1]}"


if __name__ == "__main__":
    for line in differences(sys.argv[1]):
        print(line)
