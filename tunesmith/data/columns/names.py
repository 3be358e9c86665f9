"""The names of columns, by what they hold."""

INSTRUCTIONS = ("instruction", "prompt")
QUESTIONS = ("question", "query", "problem")
INPUTS = ("input", "inputs")
CONTEXTS = (
    *("context", "article", "passage", "document", "documents", "paragraph", "background", "knowledge", "story"),
    *("evidence", "reference_text", "source_text", "source_document", "facts", "contexts", "table", "schema_text"),
)
"""Columns with material that a prompt refers to."""
PROMPT_RANKS: tuple[tuple[str, ...], ...] = (INSTRUCTIONS, QUESTIONS, INPUTS, CONTEXTS)
"""Columns that a prompt is made of, in the order in which they are put together, at most one of each group."""
PROMPTS = ("prompt", "question", "instruction", "query", "problem", "input")
ANSWERS = ("completion", "response", "output", "answer", "solution")
CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "chat", "contents")
CHOICES = ("choices", "options")
SYSTEMS = ("system", "system_prompt", "system_message", "systemInstruction")
HISTORIES = ("history", "chat_history")
TOOLS = ("tools", "functions", "toolConfig")
REJECTED = ("rejected", "rejected_response", "rejected_answer", "rejected_messages", "rejected_output")
PAIRS = (("accepted", "rejected"), ("better", "worse"), ("preferred", "dispreferred"), ("good", "bad"),
         ("positive", "negative"), ("response_j", "response_k"))  # fmt: skip
"""Pairs of columns with a better and a worse answer, beside `chosen` and `rejected`."""
OPTION_LABELS = ("A", "B", "C", "D", "E", "F", "G", "H")
OPTION_COLUMNS = ("{}", "option_{}", "option{}", "choice_{}", "choice{}", "op{}", "opt_{}", "answer_{}")
"""Names of columns with an option each, by its letter."""
IMAGES = ("images", "image", "image_path", "image_paths", "image_file", "image_files", "image_url", "image_urls")
"""Columns of images, in the order in which they are looked for."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""How the names of files with images end, in lower case."""
MEDIA = (
    *("audio", "audios", "audio_path", "audio_paths", "audio_file", "audio_files", "audio_filepath"),
    *("video", "videos", "video_path", "video_paths", "video_file", "video_files", "pixel_values"),
)
"""Columns of what no method here learns from."""
MEDIA_SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".mp4", ".avi", ".mov", ".mkv", ".webm")
"""How the names of files with audio and video end, in lower case."""

DESCRIBING = {
    *("id", "idx", "index", "key", "uuid", "hash", "row", "row_id", "name", "title", "url", "link", "path", "file"),
    *("source", "origin", "dataset", "data_source", "split", "subset", "config", "license", "version", "author"),
    *("category", "categories", "subcategory", "topic", "topics", "subject", "subjects", "domain", "field", "tag"),
    *("tags", "keywords", "type", "types", "kind", "task", "task_type", "task_name", "skill", "skills", "level"),
    *("difficulty", "grade_level", "year", "date", "time", "timestamp", "created", "created_at", "updated_at"),
    *("language", "lang", "locale", "country", "region", "model", "models", "model_name", "generator", "provider"),
    *("engine", "turn", "turns_count", "num_turns", "length", "tokens", "num_tokens", "seed", "temperature", "top_p"),
    *("note", "notes", "comment", "comments", "remark", "remarks", "description", "explanation", "explanations"),
    *("rationale", "rationales", "hint", "hints", "metadata", "meta", "info", "extra", "extra_info", "annotations"),
    *("annotator", "worker", "user", "focus", "parallel_tool_calls", "tool_choice", "schemaVersion", "response_format"),
    *("label", "feedback", "user_feedback", "human_feedback", "reaction", "vote", "verdict", "decision", "status"),
    *("start_time", "end_time", "creation_time", "created_time", "update_time", "response_time", "latency"),
    *("store", "stream", "max_tokens", "prompt_id", "reasoning_effort", "ability"),
}
"""Columns that say what a row is about or where it is from, and are part of neither prompt nor answer."""
DESCRIBING_ENDS = (
    *("_id", "_ids", "_url", "_name", "_source", "_hash", "_date", "_type", "_tokens", "_length", "_model", "_models"),
    *("_fingerprint", "_index", "_version"),
)


def describes(name: str) -> bool:
    """Tell whether a column of this name says what a row is about or where it is from."""
    return name in DESCRIBING or name.lower() in DESCRIBING or name.endswith(DESCRIBING_ENDS)
