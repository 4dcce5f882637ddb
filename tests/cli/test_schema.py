import json

import yaml


def test_schema_is_that_of_the_study_file(command) -> None:
    schema = json.loads(command("schema").stdout)
    assert schema["required"] == ["study", "model", "task"]
    assert set(schema["properties"]["task"]["discriminator"]["mapping"]) == {
        "retrieval",
        "classification",
        "generation",
        "rag",
    }
    assert yaml.safe_load(command("schema", "--template").stdout)["study"] == "template"
