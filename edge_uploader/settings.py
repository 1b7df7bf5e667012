"""The gateway's settings: every field is an environment variable, `FACERELAY_` and the field's name in capitals.

Read once, by the command line. `docs/edge.md` describes each, and a test compares the two.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, model_validator

from shared.settings import StoreSettings

_TOKEN_MIN: Final = 16


def is_this_machine(address: str) -> bool:
    """Whether only this machine can reach what is bound to an address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


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
        800,
        ge=160,
        le=4_096,
        description="Frames are shrunk to this on their long side, or by a whole number to no less than four fifths of "
        "it, before faces are looked for; crops are cut from the full frame. In a 1080p frame (then 640) faces from "
        "about 30 px are found.",
    )
    edge_whole_look_s: float = Field(
        0.5,
        ge=0,
        le=10,
        description="While faces are followed, YuNet looks at the whole picture this often, and in between only around "
        "them. 0: at the whole picture always.",
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
        4,
        ge=1,
        le=100,
        description="Most crops sent of one track and period; one more when the face looks different all of a sudden, "
        "one when it has come much nearer, and up to three whenever it comes back different, twice as many in all.",
    )
    edge_enough_worth: float = Field(
        0.45,
        ge=0,
        le=100,
        description="Once two crops of a track or more add up to this worth, no more are sent, unless the face comes "
        "much nearer: whoever is well seen is known from two. A large number: up to edge_shots_per_track of everybody.",
    )
    edge_shot_spacing_s: float = Field(
        0.8, ge=0, le=60, description="Least time between two crops of one track, so that they differ."
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
        1.0,
        ge=0,
        le=600,
        description="A track that gave nothing good enough for this long sends its best so far; after "
        "the first crop the same holds for what can hardly be recognised.",
    )
    edge_unusable_s: float = Field(
        2.0,
        ge=0,
        le=600,
        description="While no view of a track can be recognised as a rule (worth under 0.1), its first crop waits this "
        "long for a better one.",
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
        default_factory=lambda values: values["data_dir"] / "spool",
        description="Folder of crops that wait for the store. One for each gateway; on a disk that keeps what it "
        "acknowledges.",
    )
    edge_spool_limit_bytes: int = Field(
        1_000_000_000,
        ge=100_000,
        description="Most that waits in the spool. From there on live cameras' least valuable crops are dropped, and "
        "recordings wait.",
    )
    edge_spool_max_age_h: float = Field(
        720.0,
        ge=0,
        le=87_600,
        description="Crops that waited longer are erased, also those that are kept for a look. 0: never.",
    )
    edge_upload_threads: int = Field(2, ge=1, le=32, description="Crops that are on their way at a time.")
    edge_upload_backoff_max_s: float = Field(
        30.0, gt=0, le=3_600, description="Longest wait between two attempts when the store does not answer."
    )
    edge_upload_timeout_s: float = Field(
        60.0, ge=1, le=3_600, description="An attempt to send that takes longer is given up, and repeated."
    )
    edge_budget_bytes_per_hour: int = Field(
        0, ge=0, description="Most bytes on the line in any hour, protocol included. 0: no limit."
    )
    edge_budget_month: float = Field(
        0.0,
        ge=0,
        description="Most that sending may cost in a calendar month (UTC), in the currency of the prices. 0: no limit.",
    )
    edge_price_per_gb: float = Field(0.0, ge=0, description="Price of 10⁹ bytes on the line.")
    edge_price_per_10k_uploads: float = Field(
        0.0, ge=0, description="Price of 10,000 uploads, such as the store's write operations and what follows them."
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
        30.0,
        gt=0,
        le=3_600,
        description="Longest wait between two attempts to open a stream. A camera that was there in the last ten "
        "minutes is asked every 5 s at least.",
    )
    edge_watch_picture: bool = Field(
        True, description="Report pictures that are frozen, black, blinded, covered or moved. Off for PTZ on patrol."
    )
    edge_frozen_s: float = Field(
        20.0, ge=2, le=3_600, description="A picture that has not changed at all for this long is frozen."
    )
    edge_stream_give_up_s: float = Field(
        0.0, ge=0, description="A stream that gave no frame for this long is given up. 0: never."
    )

    edge_stuck_s: float = Field(
        60.0,
        ge=5,
        le=3_600,
        description="A camera that makes no progress and gives no reason for so long is stuck: `/healthz` says so, and "
        "systemd's watchdog is no longer fed. For a stream never less than two of its longest waits.",
    )

    edge_page_port: int = Field(
        8_090,
        ge=0,
        le=65_535,
        description="Port of the live page. 0: no page. When the default is taken, and nobody asked for it, any other.",
    )
    edge_page_address: str = Field(
        "127.0.0.1",
        description="Address that the live page is bound to. One that others can reach needs `edge_page_token`.",
    )
    edge_page_token: SecretStr = Field(
        SecretStr(""), description="Token that the live page asks for, 16 characters or more. Empty: none is asked for."
    )

    edge_log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged."
    )
    edge_log_format: Literal["", "text", "json"] = Field(
        "", description="`text` for people or `json` for collectors. Empty: warnings alone, unless there is a log file."
    )
    edge_log_file: str = Field("", description="File that is logged to. Empty: standard error.")
    edge_log_max_bytes: int = Field(
        10_000_000, ge=10_000, le=10_000_000_000, description="Size at which the log file is begun anew."
    )
    edge_log_backups: int = Field(5, ge=0, le=1_000, description="Earlier log files that are kept.")

    @model_validator(mode="after")
    def _in_order(self) -> EdgeSettings:
        if self.edge_low_confidence > self.edge_high_confidence:
            raise ValueError("edge_low_confidence is above edge_high_confidence")
        if self.edge_min_face_px > self.edge_max_face_px:
            raise ValueError("edge_min_face_px is above edge_max_face_px")
        if bool(self.edge_service_url) != bool(self.edge_token.get_secret_value()):
            raise ValueError("edge_service_url and edge_token are set both, or neither")
        if self.edge_budget_month and not (self.edge_price_per_gb or self.edge_price_per_10k_uploads):
            raise ValueError("edge_budget_month needs a price: edge_price_per_gb, edge_price_per_10k_uploads or both")
        token = self.edge_page_token.get_secret_value()
        if token and len(token) < _TOKEN_MIN:
            raise ValueError(f"edge_page_token is shorter than {_TOKEN_MIN} characters")
        if self.edge_page_port and not token and not is_this_machine(self.edge_page_address):
            raise ValueError("edge_page_address can be reached from elsewhere; edge_page_token must be set")
        return self
