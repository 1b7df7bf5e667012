"""HTTP routes of the gallery's review."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from functions.guard import requires
from functions.services import services
from functions.train.hygiene import Pair, Verdict
from shared.access import Scope

router = APIRouter(prefix="/api/v1/gallery", tags=["train"], dependencies=[requires(Scope.OPERATOR)])

SUGGESTIONS = {
    "duplicate": "nothing to do: it counts once",
    "unlike_own_person": "look at it; remove it, or keep it if this is the person",
    "confuses": "look at both; remove it, or enrol the photograph for the other person, or keep it if this is right",
}
UNSURE = "these templates do not resemble each other, and none was left out; look at all of them, remove the wrong ones"
ENROLLED_TWICE = "one person enrolled twice, or twins; of one person remove one id, twins stay as they are"


class FindingDocument(BaseModel):
    """A template that the review has something to say about."""

    person_id: str = Field(examples=["harrison_ford"])
    template_id: str = Field(examples=["5f0c0f3a9d5e4d4f8f3c2b1a09876543"])
    reason: str = Field(examples=["unlike_own_person"], description="`duplicate`, `unlike_own_person` or `confuses`")
    set_aside: bool = Field(examples=[True], description="Whether a training leaves it out.")
    own_similarity: float | None = Field(examples=[0.11], description="Mean, to the person's other templates.")
    nearest_person: str | None = Field(examples=["helen_clark"], description="Of all others.")
    nearest_similarity: float | None = Field(examples=[0.45], description="Mean, to the nearest person's templates.")
    other_template: str | None = Field(
        examples=["09876543f0c0f3a9d5e4d4f8f3c2b1a0"],
        description="The template that it repeats, or the nearest person's most similar one.",
    )
    own_template: str | None = Field(
        examples=["1a098765435f0c0f3a9d5e4d4f8f3c2b"], description="One that is this person, to look at beside it."
    )
    suggestion: str = Field(examples=[SUGGESTIONS["unlike_own_person"]])


class PairDocument(BaseModel):
    """Two ids that look like one person. Nothing of them is set aside."""

    people: tuple[str, str] = Field(examples=[("bob", "robert")])
    similarity: float = Field(examples=[0.66], description="Mean, between the two.")
    own_similarity: float | None = Field(examples=[0.64], description="Mean, within the less similar of the two.")
    templates: tuple[str, str] = Field(
        examples=[("5f0c0f3a9d5e4d4f8f3c2b1a09876543", "1a098765435f0c0f3a9d5e4d4f8f3c2b")],
        description="The most similar two, one of each.",
    )
    suggestion: str = Field(examples=[ENROLLED_TWICE])


class CheckDocument(BaseModel):
    """What a training would leave out, and what somebody should look at."""

    people: int = Field(ge=0, examples=[283], description="With templates of the embedder in use.")
    templates: int = Field(ge=0, examples=[1132])
    stranger_similarity: float = Field(
        examples=[0.33], description="What one in a hundred pairs of different people reaches."
    )
    measured: bool = Field(examples=[True], description="On this gallery; false: the embedder's default.")
    set_aside: int = Field(ge=0, examples=[4], description="Templates that a training leaves out, duplicates included.")
    total: int = Field(ge=0, examples=[4], description="Of findings, those over `limit` included.")
    findings: list[FindingDocument] = Field(description="Strangers before duplicates.")
    pairs: list[PairDocument] = Field(description="The hundred most similar, at most.")


def finding_document(verdict: Verdict) -> FindingDocument:
    """A verdict as JSON tells it."""
    unsure = verdict.word != "duplicate" and not verdict.set_aside
    return FindingDocument(
        person_id=verdict.person_id,
        template_id=verdict.template_id,
        reason=verdict.word,
        set_aside=verdict.set_aside,
        own_similarity=_rounded(verdict.own),
        nearest_person=verdict.person,
        nearest_similarity=_rounded(verdict.nearest),
        other_template=verdict.other,
        own_template=verdict.beside,
        suggestion=UNSURE if unsure else SUGGESTIONS[verdict.word],
    )


def pair_document(pair: Pair) -> PairDocument:
    """A pair as JSON tells it."""
    return PairDocument(
        people=(pair.first, pair.second),
        similarity=round(pair.similarity, 4),
        own_similarity=_rounded(pair.own),
        templates=pair.templates,
        suggestion=ENROLLED_TWICE,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


@router.get("/check", summary="What a training would leave out, and why")
def check_gallery(
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most findings in the answer")] = 1_000,
) -> CheckDocument:
    """Reviews the gallery as it is now; changes nothing. Seconds for 10,000 people; one at a time, 503 meanwhile."""
    checked = services().gallery().check()
    found = sorted(checked.review.findings, key=lambda verdict: verdict.word == "duplicate")
    return CheckDocument(
        people=checked.people,
        templates=checked.templates,
        stranger_similarity=round(checked.review.impostor, 4),
        measured=checked.review.measured,
        set_aside=int((~checked.review.keep).sum()),
        total=len(found),
        findings=[finding_document(verdict) for verdict in found[:limit]],
        pairs=[pair_document(pair) for pair in checked.review.pairs],
    )
