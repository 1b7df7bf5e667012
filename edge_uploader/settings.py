"""The gateway's settings: every field is an environment variable, `FACERELAY_` and the field's name in capitals.

Read once, by the command line. `docs/edge.md` describes each, and a test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr, model_validator

from shared.settings import StoreSettings


class EdgeSettings(StoreSettings):
    """What an operator can set on a gateway."""

    edge_site: str = Field("site", description="Id of the site, in the name and the tags of every crop.")
    edge_service_url: str = Field(
        "",
        description="Address of the service that lets this gateway upload, `https://…`. Empty: the gateway writes to "
        "the store itself, with its own identity.",
    )
    edge_token: SecretStr = Field(
        SecretStr(""), description="Token of scope `device` for `edge_service_url`, made with `facerelay token create`."
    )

    edge_location: str = Field(
        "", description="Where the cameras are, for those that do not say. Empty: the camera's own id."
    )

    edge_detector: str = Field("yunet", description="Face detector: `yunet`, `ultra_light` or `mtcnn`.")
    edge_detect_px: int = Field(
        960,
        ge=160,
        le=4_096,
        description="Frames are shrunk to this on their long side before faces are looked for; crops are cut from the "
        "full frame. At 960 faces from about 25 px of a 1080p frame are found.",
    )
    edge_low_confidence: float = Field(
        0.3,
        ge=0.05,
        le=1,
        description="Weaker detections are dropped. Those between this and the next only keep a "
        "track alive that has begun.",
    )
    edge_high_confidence: float = Field(
        0.6,
        ge=0.05,
        le=1,
        description="Detections from here on may begin a track. Low on purpose: what is not a face "
        "is thrown out by the recogniser, a face that was not sent is lost.",
    )

    edge_fps: float = Field(8.0, ge=0, le=120, description="Frames looked at each second, for each camera. 0: all.")
    edge_skip_frames: int = Field(
        0, ge=0, le=1_000, description="Frames passed over after each one looked at; when set, it rules over the fps."
    )
    edge_every_frame: bool = Field(
        False, description="Send every face of every frame looked at, with no tracker and no choice (for comparison)."
    )

    edge_min_face_px: int = Field(
        40,
        ge=8,
        le=2_000,
        description="Faces smaller on the long axis are discarded. A face is 3 wide to 4 high, so that 40 is about "
        "the seed's 30 px on the short axis.",
    )
    edge_max_face_px: int = Field(192, ge=32, le=4_000, description="Faces larger on the long axis are scaled down.")
    edge_crop_margin: float = Field(
        0.3,
        ge=0,
        le=2,
        description="Background on each side of the face, as a share of its width or height. The recogniser's own "
        "detector needs some.",
    )
    edge_crop_format: Literal["jpeg", "webp"] = Field("webp", description="How crops are encoded: `webp` or `jpeg`.")
    edge_crop_quality: int = Field(90, ge=20, le=100, description="Quality of the crops, in the terms of their format.")

    edge_shots_per_track: int = Field(
        3,
        ge=1,
        le=100,
        description="Most crops sent of one track and period; one more when the face looks different all of a sudden.",
    )
    edge_shot_spacing_s: float = Field(
        0.5, ge=0, le=60, description="Least time between two crops of one track, so that they differ."
    )
    edge_shot_refresh_s: float = Field(
        300.0, ge=1, le=86_400, description="A track that stays longer may send as many crops again in each period."
    )
    edge_good_enough: float = Field(
        0.35, ge=0, le=1, description="Worth (0 to 1) at which a track's first crop is sent without waiting for better."
    )
    edge_hold_s: float = Field(
        0.5, ge=0, le=10, description="A crop that is good enough waits for so long for a better one before it is sent."
    )
    edge_first_shot_s: float = Field(
        1.0, ge=0, le=600, description="A track that gave nothing good enough for this long sends its best so far."
    )
    edge_track_max_age_s: float = Field(
        1.5, gt=0, le=60, description="A track not seen for this long has ended; the next face begins a new one."
    )

    edge_rejoin_s: float = Field(
        4.0,
        ge=0,
        le=60,
        description="A track that was lost goes on when within this time a face that looks alike appears near it. "
        "0: never.",
    )
    edge_idle_s: float = Field(
        1.0, ge=0, le=60, description="While nothing moves the detector looks this often. 0: at every frame."
    )
    edge_settle_s: float = Field(
        30.0,
        ge=0,
        le=3_600,
        description="Seen for so long in one place and looking the same (a poster, a guard), a face is sent seldom. "
        "0: never.",
    )
    edge_repeat_s: float = Field(
        300.0,
        ge=1,
        le=86_400,
        description="What is sent seldom is sent again after this time, then after twice as long, up to 4 hours.",
    )

    edge_spool_dir: Path = Field(
        default_factory=lambda: user_data_path("facerelay") / "spool",
        description="Folder of crops that wait for the store. One for each gateway; on a disk that keeps what it "
        "acknowledges.",
    )
    edge_spool_limit_bytes: int = Field(
        1_000_000_000, ge=100_000, description="The gateway stops taking crops when so many bytes wait in the spool."
    )
    edge_upload_threads: int = Field(2, ge=1, le=32, description="Crops that are on their way at a time.")
    edge_upload_backoff_max_s: float = Field(
        30.0, gt=0, le=3_600, description="Longest wait between two attempts when the store does not answer."
    )
    edge_drain_s: float = Field(
        30.0,
        ge=0,
        le=3_600,
        description="How long the gateway, when it stops, waits for the spool to empty. What is "
        "left is sent at the next start.",
    )

    edge_stream_timeout_s: float = Field(
        10.0, gt=0, le=300, description="A stream that gives no frame for this long is opened again."
    )
    edge_stream_backoff_max_s: float = Field(
        30.0, gt=0, le=3_600, description="Longest wait between two attempts to open a stream."
    )
    edge_stream_give_up_s: float = Field(
        0.0, ge=0, description="A stream that gave no frame for this long is given up. 0: never."
    )

    @model_validator(mode="after")
    def _in_order(self) -> EdgeSettings:
        if self.edge_low_confidence > self.edge_high_confidence:
            raise ValueError("edge_low_confidence is above edge_high_confidence")
        if self.edge_min_face_px > self.edge_max_face_px:
            raise ValueError("edge_min_face_px is above edge_max_face_px")
        if bool(self.edge_service_url) != bool(self.edge_token.get_secret_value()):
            raise ValueError("edge_service_url and edge_token are set both, or neither")
        return self
