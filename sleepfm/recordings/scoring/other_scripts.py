"""Words for stages, events and column headings in Chinese, Japanese, Korean and Russian.

Known words are replaced by English ones, which the other rules then interpret. A label that keeps
a letter of another script is not understood as a whole: ``ノンREM`` must not be read by its three
Latin letters.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Final, Literal

Kind = Literal["stage", "event", "heading"]

_STAGES: Final = {
    "非快速眼动": "nrem", "非快速眼動": "nrem", "非快速动眼": "nrem", "非快速動眼": "nrem",
    "ノンレム": "nrem", "ノンrem": "nrem", "非rem": "nrem", "비렘": "nrem", "비rem": "nrem",
    "快速眼动": "rem", "快速眼動": "rem", "快速动眼": "rem", "快速動眼": "rem", "レム": "rem",
    "렘": "rem", "бдг": "rem", "清醒": "wake", "覚醒": "wake", "각성": "wake",
    "бодрствование": "wake", "未分期": "unscored", "未评分": "unscored", "判定不能": "unscored",
    "体动": "movement", "体動": "movement", "伪迹": "artifact", "睡眠": "sleep", "수면": "sleep",
    "阶段": "stage", "階段": "stage", "段階": "stage", "ステージ": "stage", "단계": "stage",
    "стадия": "stage", "фаза": "stage", "期": "stage", "сна": "sleep", "сон": "sleep",
}  # fmt: skip
_EVENTS: Final = {
    "呼吸暂停": "apnea", "呼吸暫停": "apnea", "無呼吸": "apnea", "무호흡": "apnea",
    "апноэ": "apnea",
    "低通气": "hypopnea", "低通氣": "hypopnea", "低呼吸": "hypopnea", "저호흡": "hypopnea",
    "гипопноэ": "hypopnea",
    "阻塞性": "obstructive", "阻塞": "obstructive", "閉塞性": "obstructive",
    "閉塞型": "obstructive",
    "폐쇄성": "obstructive", "обструктивное": "obstructive",
    "中枢性": "central", "中樞性": "central", "中枢型": "central", "중추성": "central",
    "центральное": "central",
    "混合性": "mixed", "混合型": "mixed", "혼합성": "mixed", "смешанное": "mixed",
    "微觉醒": "arousal", "微覺醒": "arousal", "觉醒反应": "arousal", "覚醒反応": "arousal",
    "아로우절": "arousal", "активация": "arousal",
    "血氧饱和度下降": "desaturation", "血氧下降": "desaturation", "氧减": "desaturation",
    "氧饱和度下降": "desaturation", "酸素飽和度低下": "desaturation", "десатурация": "desaturation",
    "周期性": "periodic", "肢体运动": "limb movement", "肢體運動": "limb movement",
    "四肢運動": "limb movement", "下肢運動": "limb movement", "肢动": "limb movement",
    "鼾声": "snore", "打鼾": "snore", "いびき": "snore", "храп": "snore",
    "睡眠": "", "事件": "", "イベント": "",
}  # fmt: skip
_HEADINGS: Final = {
    "开始时间": "start time", "開始時間": "start time", "開始時刻": "start time",
    "起始时间": "start time", "время начала": "start time", "시작 시간": "start time",
    "结束时间": "end time", "結束時間": "end time", "終了時間": "end time", "終了時刻": "end time",
    "время окончания": "end time", "종료 시간": "end time",
    "持续时间": "duration", "持續時間": "duration", "持続時間": "duration", "时长": "duration",
    "長さ": "duration", "длительность": "duration", "지속 시간": "duration",
    "时间": "time", "時間": "time", "時刻": "time", "время": "time", "시간": "time",
    "日期": "date", "日付": "date", "дата": "date", "날짜": "date",
    "睡眠分期": "stage", "睡眠阶段": "stage", "睡眠階段": "stage", "睡眠段階": "stage",
    "睡眠ステージ": "stage", "睡眠期": "stage", "分期": "stage", "ステージ": "stage",
    "стадия": "stage", "수면 단계": "stage",
    "事件": "event", "イベント": "event", "событие": "event", "이벤트": "event",
    "エポック": "epoch", "эпоха": "epoch", "에포크": "epoch",
    "类型": "type", "種類": "type", "тип": "type", "备注": "comment", "コメント": "comment",
    "序号": "number", "编号": "number", "番号": "number", "номер": "number",
    "秒": "s", "сек": "s", "초": "s",
}  # fmt: skip
_LAST_LATIN: Final = 0x2AF


def _decomposed(text: str) -> str:
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in split if not unicodedata.combining(c))


def _table(words: dict[str, str]) -> tuple[re.Pattern[str], dict[str, str]]:
    english = {_decomposed(word): meaning for word, meaning in words.items()}
    longest_first = sorted(english, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), english


_TABLES: Final = {
    kind: _table(words)
    for kind, words in (("stage", _STAGES), ("event", _EVENTS), ("heading", _HEADINGS))
}


@functools.lru_cache(maxsize=4096)
def in_english(text: str, kind: Kind) -> str:
    """Replace words of other scripts by English ones.

    Parameters
    ----------
    text : str
        Label or heading, as from :func:`~.stage_words.plain`: lower case, without accents.
    kind : {"stage", "event", "heading"}
        What the text names; a word may mean different things (``覚醒`` is wake as a stage).

    Returns
    -------
    str
        The text with its known words in English, and any other as it was.
    """
    if text.isascii():
        return text
    pattern, english = _TABLES[kind]
    return pattern.sub(lambda match: f" {english[match.group()]} ", text)


def is_foreign(text: str) -> bool:
    """Return whether a text has letters of a script other than Latin.

    Parameters
    ----------
    text : str
        Label or heading, after :func:`in_english`.

    Returns
    -------
    bool
        The Greek mu of units does not count.
    """
    return any(ord(c) > _LAST_LATIN and c.isalpha() and c != "μ" for c in text)
