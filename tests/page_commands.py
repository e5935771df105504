"""By which test each command line of README and docs/ is run."""

from __future__ import annotations

import re

from tests.pages import Command

# What runs in the slow test of the quickstart, which starts what they speak of.
QUICKSTART = re.compile(r"quickstart|127\.0\.0\.1:8000")
# What changes nothing on any machine, and is run in a scratch directory.
READING = ("doctor", "plan", "spec", "ps", "top", "completion", "kata", "libvirt render", "rootfs inspect", "gpu list",
           "gpu status", "gpu cc-mode show", "image list")
# Of these, what says what would be done with an image, which is there by then.
NEEDS_IMAGE = re.compile(r"vmtool (model (canary|smollm2) .* --dry-run|plan guest)")
# Of these, what the page shows is what is printed on any machine.
SAME_EVERYWHERE = re.compile(r"vmtool (kata|recover|spec|plan bad|libvirt render guest-bad)")
HARMLESS = ("sed", "grep", "source")
TESTS = "runs the tests"
# Command lines that are run elsewhere: by this test, or it is what runs the tests. A row that no page shows is stale.
ELSEWHERE = {
    "scripts/setup --test": TESTS,
    "scripts/test": TESTS,
    "scripts/test --fast": TESTS,
    "scripts/test --slow": TESTS,
    ".venv/bin/python -m pytest tests/unit": TESTS,
    ".venv/bin/python -m ruff check .": "test_linter_is_content",
    ".venv/bin/python -m mypy": "test_linter_is_content",
    "curl -sS http://192.0.2.2:8000/v1/models": "test_no_other_address_leads_to_it",
    "vmtool attest verify report.bin --collateral vcek.der --nonce 00112233445566778899aabbccddeeff":
        "test_the_command_proves_a_genuine_report",
    **dict.fromkeys(("vmtool status chat --proof -o chat.tar", "vmtool attest verify chat.tar"),
                    "test_a_bundle_of_it_is_checked_by_another_machine_and_has_none_of_its_secrets"),
    **dict.fromkeys(("vmtool attest challenge evidence.json -o asked --roots makers",
                     "vmtool attest verify evidence.json --challenge asked/challenge.json --roots makers"),
                    "test_the_commands_from_the_question_to_the_answer"),
    **dict.fromkeys(("vmtool attest reference guest.yaml -o reference.yaml",
                     "vmtool attest verify report.bin --collateral vcek.der --reference reference.yaml"),
                    "test_a_report_is_held_against_the_reference_of_a_launch"),
    "vmtool attest evidence https://llm.lab:8443 -o evidence.json":
        "test_its_evidence_is_kept_and_verified_by_the_command_that_is_shown",
    "vmtool connect https://llm.lab:8443 --policy policy.yaml": "test_report_verified_key_pinned_chat_through",
    "vmtool connect https://llm.lab:8443 --policy unconfidential.yaml --check":
        "test_a_ca_of_the_policy_must_have_signed_the_certificate",
    **dict.fromkeys(("vmtool metrics --dashboard > vmtool-dashboard.json",
                     "vmtool metrics --alerts > vmtool-alerts.yml"),
                    "test_promtool_accepts_the_rules_and_each_question_of_the_dashboard"),
    "vmtool metrics --otlp http://127.0.0.1:4318/v1/metrics --every 30":
        "test_again_and_again_a_failure_is_said_and_tried_anew",
    "vmtool metrics > vmtool.prom": "test_what_the_host_knows_of_its_instances",
    **dict.fromkeys(("vmtool ca export > vmtool-ca.pem", "vmtool ca show"),
                    "test_the_ca_is_made_once_and_openssl_agrees"),
    "vmtool ca renew": "test_renewed_while_a_stream_goes_on",
    "vmtool image build vllm-cpu": "test_a_build_from_nothing_and_then_nothing_to_build",
    "vmtool model canary models/canary": "model",
    "vmtool key serve broker.yaml --check": "test_the_check_shows_what_would_be_released_to_whom",
    "vmtool key serve broker.yaml --listen 127.0.0.1:8081":
        "test_a_key_is_released_over_tls_and_the_broker_ends_when_it_is_told",
    **dict.fromkeys((
        "vmtool key generate -o new.jwk",
        "vmtool model rewrap encrypted --key master.jwk --new-key new.jwk --sign signer.jwk",
        "vmtool key generate -o master.jwk", "vmtool key generate --sign -o signer.jwk", "vmtool key show master.jwk",
        "vmtool key export-public signer.jwk > signer.pub.jwk",
        "vmtool model encrypt plain -o encrypted --key master.jwk --sign signer.jwk",
        "vmtool model inspect encrypted --signer signer.pub.jwk",
        "vmtool model verify encrypted --signer signer.pub.jwk",
        "vmtool model verify encrypted --signer signer.pub.jwk --data",
        "vmtool model verify encrypted --signer signer.pub.jwk --key master.jwk"),
        "test_the_page_typed_from_its_first_line_to_its_last"),
    "vmtool model smollm2 models/smollm2": "test_it_is_whole_and_made_once",
    "vmtool rootfs boot rootfs.img": "test_the_guest_boots_and_has_its_hook_and_agent",
    "vmtool rootfs build rootfs-debian-nvidia -o nv.img":
        "test_nvidias_open_modules_are_compiled_for_the_guests_kernel",
    "vmtool rootfs resize rootfs.img +20G": "test_a_grown_image_is_sparse_clean_and_verifies",
    "vmtool rootfs verify rootfs.img": "test_a_grown_image_is_sparse_clean_and_verifies",
    **dict.fromkeys(("vmtool rm --yes chat", "vmtool recover --adopt chat --dry-run",
                     "vmtool recover --adopt chat --yes", "vmtool rm chat"),
        "test_whatever_becomes_of_the_journal_nothing_is_said_to_be_removed_while_it_serves"),
    "vmtool run broken.yaml": "test_a_server_that_dies_at_once_is_told_with_its_last_lines",
    **dict.fromkeys(("vmtool upgrade chat --dry-run", "vmtool upgrade chat --image vmtool/vllm-cpu:latest",
                     "vmtool upgrade chat --spec new.yaml --drain 60",
                     "vmtool stop chat && vmtool upgrade chat --spec new.yaml"),
                    "test_each_line_does_what_it_says_one_after_the_other"),
    "vmtool run guest.yaml": "test_the_image_boots_serves_and_is_proven",
}


def is_networks(command: Command) -> bool:
    """Whether it makes or shows networks, which a test does on a host inside the host."""
    return command.text.startswith("vmtool net ") and not QUICKSTART.search(command.text)


def is_quickstarts(command: Command) -> bool:
    """Whether it speaks of the instance that the quickstart launches."""
    return bool(QUICKSTART.search(command.text))


def is_reading(command: Command) -> bool:
    """Whether a test can run it in a scratch directory of any machine."""
    if command.needs or command.text in ELSEWHERE or is_networks(command) or is_quickstarts(command):
        return False
    return all(words[0] in HARMLESS or (words[0] == "vmtool" and _changes_nothing(words[1:]))
               for words in command.programs)


def _changes_nothing(words: tuple[str, ...]) -> bool:
    text = " ".join(words)
    return "--dry-run" in words or ("--install" not in words and any(
        text == reading or text.startswith(f"{reading} ") for reading in READING))
