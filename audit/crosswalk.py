"""crosswalk.md: points of a law, three standards and a taxonomy, and where an attestation answers each, or that it does not.

Regulation (EU) 2024/1689, article 15; ISO/IEC TR 24029-1:2021 and ISO/IEC 24029-2:2023; NIST AI 100-2 E2025; OWASP AISVS
1.0. The points are in our own words, in the order of the documents. The page claims no conformity with any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from audit import answers, proof_answers
from audit.answers import Answer, elsewhere, not_tested
from bundle.attestation import model_version
from bundle.pages import headline
from bundle.pages.card import plain
from bundle.pages.wording import data_title


@dataclass(frozen=True)
class Point:
    """One point of a document: its place there, what it asks in our words, and how a predicate answers."""

    place: str
    asks: str
    answer: Callable[[Mapping[str, Any]], Answer]


def _always(answer: Answer) -> Callable[[Mapping[str, Any]], Answer]:
    return lambda _: answer


def _untested(text: str, *where: str) -> Callable[[Mapping[str, Any]], Answer]:
    return _always(not_tested(text, *where))


#: Article 15 is about high-risk AI systems; whether a model is part of one is not known here.
AI_ACT = (
    Point(
        "15(1)",
        "a level of accuracy, robustness and cybersecurity that fits the purpose",
        _always(elsewhere("The rows below say what was measured; which level fits a purpose is not judged.", "claims")),
    ),
    Point(
        "15(1)",
        "the same performance throughout the life cycle",
        _untested("This is about one file at one time; drift in use was not looked at.", "model"),
    ),
    Point("15(2)", "benchmarks and methods by which levels are measured", answers.methods),
    Point("15(3)", "accuracy and its metrics declared for those who use the system", answers.clean),
    Point("15(4)", "resilience to errors and inconsistencies of the input", answers.corruptions),
    Point("15(4)", "resilience to faults and inconsistencies within the system", answers.inconsistency),
    Point("15(4)", "redundancy, backup and fail-safe plans", _always(elsewhere("A matter of the system around it."))),
    Point(
        "15(4)",
        "feedback loops of systems that go on learning",
        _always(elsewhere("model.onnx does not change; what is done with its answers is not known here.", "model")),
    ),
    Point("15(5)", "security against those who would alter use, outputs or performance", answers.integrity),
    Point("15(5)", "manipulated training data", answers.poisoning),
    Point("15(5)", "manipulated pre-trained components", _untested("Not tried.", "method", "network")),
    Point("15(5)", "adversarial examples and evasion", answers.evasion),
    Point("15(5)", "attacks on confidentiality", _untested("Not tried.")),
    Point("15(5)", "flaws of the model", answers.flaws),
)

ISO_1 = (
    Point("clause 4", "a workflow: goals, plan, tests, analysis, interpretation", answers.workflow),
    Point("clause 5", "statistical: performance on data, with its uncertainty", answers.clean),
    Point("clause 5", "statistical: performance on perturbed data", answers.corruptions),
    Point("clause 6", "formal: properties that hold on a whole domain", proof_answers.proofs),
    Point("clause 7", "empirical: field trials", _untested("None took place.")),
    Point("clause 7", "empirical: answers judged by people afterwards", _untested("None were.")),
    Point("clause 7", "empirical: benchmarks", answers.methods),
)

ISO_2 = (
    Point("5.2", "the domain on which a property is assessed", proof_answers.domain),
    Point("5.3", "stability: the answer stays the same on the domain", proof_answers.proofs),
    Point("5.3", "stability: counterexamples", answers.evasion),
    Point("5.4", "sensitivity: how much the output varies on the domain", proof_answers.sensitivity),
    Point("5.5", "relevance: which parts of the input matter", _untested("Not looked at.")),
    Point(
        "5.6", "reachability of states over several steps", _untested("One image, one answer: no steps were looked at.")
    ),
    Point("6.2", "the kind of method, and its arithmetic", proof_answers.kinds_of_proof),
    Point("clause 7", "the life cycle: verification and validation", answers.workflow),
    Point("clause 7", "the life cycle: deployment", answers.inconsistency),
    Point("clause 7", "the life cycle: operation and monitoring", _untested("Not looked at.")),
)

NIST = (
    Point(
        "stage",
        "when the attack takes place",
        _always(Answer("recorded", "In deployment, at inference; training is taken as honest.", ("attacks",))),
    ),
    Point(
        "goal",
        "availability, integrity or privacy",
        _always(
            Answer("recorded", "Integrity: any wrong answer. Nothing about the other two.", ("attacks", "notTested"))
        ),
    ),
    Point("capability", "what the attacker can change", proof_answers.domain),
    Point("knowledge", "what the attacker knows", answers.knowledge),
    Point("evasion", "white-box attacks", answers.white_box),
    Point("evasion", "black-box attacks", answers.black_box),
    Point("evasion", "transfer from other models", answers.transfer),
    Point("evasion", "attacks that know the defence", answers.adaptive),
    Point("evasion", "one change for many images; changes in the physical world", _untested("Not tried.")),
    Point("mitigation", "adversarial training", answers.training),
    Point("mitigation", "randomized smoothing", proof_answers.smoothing),
    Point("mitigation", "formal verification", proof_answers.verification),
    Point("poisoning", "of data: availability, targeted, backdoor", answers.poisoning),
    Point("poisoning", "of the model", _untested("Not tried.", "method")),
    Point("privacy", "reconstruction, membership and property inference, model extraction", _untested("Not tried.")),
    Point("availability", "inputs that make the model slow or costly", _untested("Not tried.")),
)

#: The requirements that are about one model file and its documents; github.com/OWASP/AISVS, folder 1.0.
AISVS = (
    Point("3.1.2, level 2", "every model artifact signed by those who may", answers.signing),
    Point(
        "3.2.2, level 2",
        "a model that was quantized after training evaluated again, as the compressed file",
        answers.served_file,
    ),
    Point("6.2.2, level 2", "the bill of materials signed", answers.signed_materials),
    Point("11.1.3, level 1", "evaluated against known attacks of the model's kind of input", answers.evasion),
    Point("11.1.4, level 2", "hardened against adversarial inputs", answers.hardening),
)

#: Title and points of each document.
DOCUMENTS = (
    ("EU AI Act, Regulation (EU) 2024/1689, article 15 (high-risk systems)", AI_ACT),
    ("ISO/IEC TR 24029-1:2021, robustness of neural networks, overview", ISO_1),
    ("ISO/IEC 24029-2:2023, robustness of neural networks, formal methods", ISO_2),
    ("NIST AI 100-2 E2025, adversarial machine learning, predictive AI", NIST),
    ("OWASP AISVS 1.0, artificial intelligence security verification", AISVS),
)


def render_crosswalk(predicate: Mapping[str, Any], digest: str) -> str:
    """The crosswalk as Markdown, the same to the byte for the same predicate.

    Parameters: `predicate`, the attestation's, with claims and bounds; `digest`, the SHA-256 of model.onnx.
    """
    documents = [(title, [(point, point.answer(predicate)) for point in points]) for title, points in DOCUMENTS]
    text = _template().render(
        predicate=predicate,
        digest=digest,
        version=model_version(digest),
        warnings=headline.warnings(predicate),
        documents=documents,
    )
    return f"{text}\n"


def _template() -> Any:
    environment: Any = Environment(
        loader=PackageLoader("bundle"), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=plain
    )
    environment.filters["data_title"] = data_title
    return environment.get_template("crosswalk.md")
