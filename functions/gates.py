"""What is good enough to be recognised, and to be enrolled, as the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.vision.quality import QualityGate


def recognition_gate(settings: Settings) -> QualityGate:
    """Throws out what cannot be recognised."""
    from shared.vision.quality import QualityGate

    return QualityGate(
        min_size_px=settings.recognize_min_size_px,
        min_sharpness=settings.recognize_min_sharpness,
        min_confidence=settings.recognize_min_confidence,
        max_abs_yaw=settings.recognize_max_yaw,
        max_abs_pitch=settings.recognize_max_pitch,
        max_abs_roll=settings.recognize_max_roll,
        max_dark=settings.recognize_max_dark,
        max_bright=settings.recognize_max_bright,
        min_contrast=settings.recognize_min_contrast,
    )


def enrolment_gate(settings: Settings) -> QualityGate:
    """Throws out what nobody should be recognised by; stricter, since a bad template costs every later search."""
    from shared.vision.quality import QualityGate

    return QualityGate(
        min_size_px=settings.enroll_min_face_px,
        min_sharpness=settings.enroll_min_sharpness,
        min_confidence=settings.enroll_min_confidence,
        max_abs_yaw=settings.enroll_max_yaw,
        max_abs_pitch=settings.enroll_max_pitch,
        max_abs_roll=settings.enroll_max_roll,
        max_dark=settings.enroll_max_dark,
        max_bright=settings.enroll_max_bright,
        min_contrast=settings.enroll_min_contrast,
    )
