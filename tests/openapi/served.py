"""Writes the document of the server at BASE for generators: served.json, and json_bodies.json for those that read one body."""

import json
import sys
import urllib.request

base, folder = sys.argv[1:]
with urllib.request.urlopen(f"{base}/openapi.json") as answer:
    document = json.load(answer)

document["servers"] = [{"url": base}]  # Postman has no address that a path could be below
with open(f"{folder}/served.json", "w") as file:
    json.dump(document, file)

# progenitor takes an operation with one content type alone, and says so where there are two.
for methods in document["paths"].values():
    for operation in methods.values():
        if "requestBody" in operation:
            del operation["requestBody"]["content"]["application/x-www-form-urlencoded"]
with open(f"{folder}/json_bodies.json", "w") as file:
    json.dump(document, file)
