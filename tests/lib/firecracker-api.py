#!/usr/bin/env python3
"""firecracker-api.py FAKE DESCRIPTION: each difference between what the stand-in of tests/fake takes and what Firecracker's own
description of its API (swagger, YAML) says, one a line. Exits with 77 where YAML cannot be read here.
"""
import importlib.machinery
import importlib.util
import sys

try:
    import yaml
except ImportError:
    sys.exit(77)

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("fake", sys.argv[1])
fake = importlib.util.module_from_spec(importlib.util.spec_from_loader("fake", loader))
loader.exec_module(fake)
with open(sys.argv[2], encoding="utf-8") as f:
    described = yaml.safe_load(f)


def resolve(schema):
    return described["definitions"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema


def kind_of(schema):
    """As the stand-in says it, but for bounds."""
    schema = resolve(schema)
    if "enum" in schema and schema["type"] == "string":
        return schema["enum"]
    return {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list}[schema["type"]]


# Firecracker's description leaves these to the reader.
LOOSE = {("/machine-config", "cpu_template"): str, ("/actions", "action_type"): ["FlushMetrics", "InstanceStart", "SendCtrlAltDel"]}

for (method, path), (_, fields) in fake.API.items():
    operation = described["paths"].get(path, {}).get(method.lower())
    if not operation:
        print(f"{method} {path} is not described")
        continue
    body = resolve(next(p["schema"] for p in operation["parameters"] if p["in"] == "body"))
    properties = body["properties"]
    required = set(body.get("required", []))
    taken = {name.rstrip("!"): kind for name, kind in fields.items()}
    for name in sorted(set(properties) ^ set(taken)):
        print(f"{method} {path}: {name} is {'taken' if name in taken else 'described'} alone")
    for name in sorted({n.rstrip("!") for n in fields if n.endswith("!")} ^ required):
        print(f"{method} {path}: {name} {'must' if name in required else 'need not'} be there")
    for name in sorted(set(properties) & set(taken)):
        kind = int if isinstance(taken[name], range) else taken[name]
        wanted = LOOSE.get((path, name)) or kind_of(properties[name])
        if kind != wanted:
            print(f"{method} {path}: {name} is {kind}, described as {wanted}")
    minimum = {n: resolve(p).get("minimum") for n, p in properties.items()}
    for name, kind in taken.items():
        if isinstance(kind, range) and minimum.get(name) not in (None, kind.start):
            print(f"{method} {path}: {name} is from {kind.start} on, described from {minimum[name]}")
