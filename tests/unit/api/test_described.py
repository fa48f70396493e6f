"""What is read at every request is described once."""

from pydantic import BaseModel

from service.api.described import Described


class Page(Described):
    limit: int = 20


class LongPage(Page):
    after: str | None = None


def test_a_schema_is_made_once_and_for_each_model_its_own() -> None:
    assert Page.model_json_schema() is Page.model_json_schema()
    assert LongPage.model_json_schema()["properties"].keys() == {"limit", "after"}


def test_what_the_document_asks_for_is_made_as_it_asks() -> None:
    wanted = {"by_alias": True, "ref_template": "#/components/schemas/{model}"}

    class Plain(BaseModel):
        limit: int = 20

    made = Page.model_json_schema(**wanted)
    assert made is not Page.model_json_schema()
    assert made["properties"] == Plain.model_json_schema(**wanted)["properties"]
