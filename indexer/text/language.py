"""Detects the language of a text: by its script, then by its function words. No model, no dictionary file.

Good enough to choose a stemmer and to know whether an embedding model has read such text; not a general
identifier. Figures are in ``docs/search.md``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

# Function words -----------------------------------------------------------------------------------------------------
# Frequent short words that identify a language. Keys are ISO 639-1 codes.

FUNCTION_WORDS: dict[str, str] = {
    "ca": "els amb per dels una és que del aquest aquesta més són va han com però també les la el al i molt ser",
    "cs": (
        "je se na že jako být jsou pro který která které nebo tak však jeho jen byl byla bylo kde může podle "
        "při jak kolik proč kdy kdo čí kterého kterou kterých kterým má mají není ze ve po před nad pod když "
        "mezi"
    ),
    "da": (
        "og er det at en af til på med ikke der har som et blev den fra også kan var jeg hvad hvilken hvor "
        "efter mange hvorfor hvem hvis hvilke hvilket havde mere end under over mellem sig"
    ),
    "de": (
        "der die das und ist nicht ein eine zu den mit von im für auf des dem sich als auch wird werden sind "
        "wie wurde was welche welcher welches wer wann wo warum bei nach oder aus durch es ich kann kein "
        "einer einem über zum zur welchem welchen wessen wen wem viele wieviele hatte haben laut beim während "
        "wozu weshalb wieso habe hat gibt gab unter vor bis ihr ihre sein seine dieser diese dieses noch nur "
        "mehr war waren"
    ),
    "en": (
        "the of and to is in that it for was with as on are be this by not have from at or an which what how "
        "who when where why can does did you your his their has were do i my should between into than there "
        "these if but a about use both whose whom will would some many other our we using used under over "
        "after all had been more most only out up he she they one no so such may its"
    ),
    "eo": "la kaj estas de en al kiu kiuj por kun ne sed ĉi tiu ankaŭ aŭ ol pli oni li ĝi estis kio",
    "es": (
        "de la que el en y los del se las por un para con no una su al lo como más pero sus es qué cuál "
        "cuándo cómo dónde quién entre fue son está este esta ha desde cuántos cuánto cuáles quiénes cuántas "
        "porque también muy sin sobre hasta hay ser eran tiene había"
    ),
    "et": "ja on ei see et kui oma ka ning mis või kes oli aga selle nii mida tema olid pole milline kus",
    "eu": "eta da ez bat du zen dira ere izan den hau baina edo egin dute zuen honen gabe nola zer",
    "fi": (
        "ja on ei se että oli joka mutta ovat kun hän myös tai kuin sen mitä mikä ole ollut voi jonka kuka "
        "missä kuinka monta miksi milloin ketkä joita jotka eivät olla sekä jos kanssa"
    ),
    "fr": (
        "le la les de des et est un une du en que qui dans pour pas au par sur ne il elle avec ce sont plus "
        "ou quel quelle quels comment quand où aux se cette été être était qu l d combien pourquoi quelles "
        "laquelle lequel leur leurs ses son sa nous vous ils elles étaient ont fait entre sous"
    ),
    "ga": "agus an na is ar le go bhí sé sí ní tá don seo sin mar nach bhfuil chun ach cad conas",
    "hu": (
        "a az és hogy nem is egy volt meg ez de csak van már mint vagy azt amely ki mi milyen hol mikor "
        "voltak hány miért hogyan kik melyik amelyek amit lehet kell lett után alatt között minden"
    ),
    "id": (
        "yang dan di ini itu dengan untuk dari tidak dalam pada adalah ke akan oleh juga atau bisa apa "
        "bagaimana siapa berapa mengapa kapan dimana siapakah telah sudah dapat mereka seperti karena"
    ),
    "it": (
        "di che il la e un una per non sono con del della è dei nel alla da si come anche più gli le al cosa "
        "quale quando chi dove quanto lo questo ha essere stato quali quanti quante perché dalla dallo degli "
        "delle nella nelle sul sulla dopo prima era erano stata stati suo sua"
    ),
    "lt": "ir yra kad tai bet su kaip iš buvo jo nuo apie jis ar kuris kas kur savo dar ne už",
    "nl": (
        "de het een van en is dat in te niet op voor met zijn aan er die om ook als bij wat welke wie hoe "
        "waar wanneer door werd naar uit deze over kan heeft welk hoeveel waarom wiens hebben had zich zou "
        "worden hun haar onder na tot meer geen nog dan maar"
    ),
    "no": (
        "og er det at en av til på med ikke som har et ble den fra også kan var jeg hva hvilken hvor etter "
        "eller skal mange hvorfor hvem hvilke hvilket hadde mer enn under over mellom seg"
    ),
    "pl": (
        "i w na z się nie jest do to że o jak co za od przez po jego są był była było jaki jaka jakie który "
        "która które dla oraz czy kto gdzie kiedy może lub ten ile dlaczego czyj czyja kogo komu którym "
        "której których ma mają ze tym tego tej przed nad pod gdy jeśli"
    ),
    "pt": (
        "de que o a e do da em um uma para com não os no se na por mais as dos como mas foi ao ele das à qual "
        "quando quem onde são ser está pela pelo você seu sua quantos quantas porque também muito sem sobre "
        "até há eram tem pelos nas aos isso quais"
    ),
    "ro": (
        "și de la în a care nu un o cu din pe este pentru mai că au fost sunt ce sau dar prin ale al unde cum "
        "se cine câte câți când cât până erau avea sale"
    ),
    "sk": ("je sa na že ako byť sú pre ktorý ktorá ktoré alebo tak však jeho len bol bola bolo kde môže podľa pri čo"),
    "sv": (
        "och är det att en av till på med inte som har ett den från också kan var jag vad vilken hur efter "
        "eller för de om blev när vem många varför vilka vilket vems hade bara mer än under över mellan"
    ),
    "st": "le ya ho ka ba ke mme hore tsa la wa e o ha go tse di",
    "tr": (
        "ve bir bu da de için ile olarak çok daha ne gibi olan sonra kadar ya mi var en değil hangi nasıl kim "
        "nerede kaç neden niçin kimdir nedir hangisi olduğu tarafından önce ama veya her kendi"
    ),
    "vi": (
        "là và của có không được trong cho các một những với này người đã để khi từ như về gì ở nào bao nhiêu "
        "tại sao ai đâu bị vào ra trên dưới"
    ),
    "hr": "je i u na se da su za od kao koji koja koje nije ali ili bio bila bilo ne što gdje kako tko više",
    "ru": (
        "и в не на что с по как это а из у к но за от для его был она они так же или который которая которые "
        "кто где когда какой какая какие было были при до о чем почему сколько каком какого какую каких каким "
        "чья чей которого которой которых кого кому ком стал стала если только можно нужно после между под "
        "над во со бы ли быть есть этот эта эти том всё все её их им"
    ),
    "uk": (
        "і в не на що з як це та у до але за від для його був вона вони так же або який яка які хто де коли є "
        "скільки чому чий якого якої яких якими яким бути були між під над після якщо тільки можна"
    ),
    "bg": ("и в не на че с по като това от за е са се да но или който която които кой къде кога какво беше му към"),
    "sr": "и је у на се да су за од са као који која које није али или био била било не шта где како ко",
    "ar": "في من على أن إلى هذا التي الذي عن مع ما كان هو هي لا أو كما بعد قبل كل بين ذلك كانت هل متى أين كيف و",
    "fa": "در به از که این را با است برای آن یک تا می بر شد خود هم بود شده کرد چه کجا چگونه های ها و",
    "ur": "کے میں کی ہے اور سے کو کا نے پر یہ ہیں کہ اس تھا ایک بھی کیا نہیں",
    "hi": "के में की है और से को का ने पर यह हैं कि इस था एक भी क्या नहीं हो कर लिए जो तो थे गया कौन कब कहाँ",
    "mr": "आणि आहे या च्या ते हे एक होते मध्ये होता आहेत व नाही काय केले साठी",
    "ne": "र छ को मा यो छन् पनि हो भएको गरेको लागि एक तथा थियो गर्न के",
    "yi": "און די דער איז פון צו אין א נישט דאס מיט האט אויף",
    "he": "של את על הוא לא זה עם היא גם או כי מה אני היה יש אל",
}
"""Space-separated function words by language."""


# Language -----------------------------------------------------------------------------------------------------------

SAMPLE = 6_000
"""Characters examined; more does not change the result on prose."""

_OTHER_SCRIPTS = {
    "CYRILLIC": ("ru", "uk", "bg", "sr"),
    "ARABIC": ("ar", "fa", "ur"),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "HEBREW": ("he", "yi"),
}
_LATIN = tuple(sorted(FUNCTION_WORDS.keys() - {code for codes in _OTHER_SCRIPTS.values() for code in codes}))
_SCRIPT_LANGUAGES = {"LATIN": _LATIN, **_OTHER_SCRIPTS}
_ONE_LANGUAGE = {
    "GREEK": "el", "ARMENIAN": "hy", "GEORGIAN": "ka", "TAMIL": "ta", "BENGALI": "bn", "GUJARATI": "gu",
    "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml", "GURMUKHI": "pa", "SINHALA": "si", "THAI": "th", "LAO": "lo",
    "KHMER": "km", "MYANMAR": "my", "HANGUL": "ko", "ETHIOPIC": "am", "TIBETAN": "bo", "MONGOLIAN": "mn",
}  # fmt: skip
# Letters that only one of these languages has; each counts as one function word.
_LETTERS = {
    "ß": "de", "ñ": "es", "¿": "es", "ł": "pl", "ő": "hu", "ű": "hu", "ğ": "tr", "ı": "tr", "ř": "cs", "ů": "cs",
    "ě": "cs", "ľ": "sk", "ã": "pt", "ț": "ro", "ș": "ro", "ė": "lt", "ų": "lt", "œ": "fr", "ĉ": "eo", "ŭ": "eo",
    "ơ": "vi", "ư": "vi", "đ": "vi", "і": "uk", "ї": "uk", "є": "uk", "ы": "ru", "э": "ru", "ј": "sr", "љ": "sr",
    "ћ": "sr", "پ": "fa", "گ": "fa", "ژ": "fa", "ٹ": "ur", "ں": "ur", "ے": "ur", "ة": "ar",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+(?:[\u0900-\u0963][^\W\d_]*)*")
_NON_LATIN = re.compile(r"[^\x00-\u024f\u1e00-\u1eff\u2000-\u2bff\ufb00-\ufb06\ufeff]+")


def script_of(letter: str) -> str:
    """First word of a letter's Unicode name: ``LATIN``, ``CJK``, ``HIRAGANA``; empty for what is no letter."""
    return unicodedata.name(letter, "").split(" ", 1)[0] if letter.isalpha() else ""


@cache
def script_of_language(language: str) -> str:
    """Script a language is usually written in, as ``script_of`` names it; empty for the empty language."""
    if not language:
        return ""
    if language in {"zh", "ja"}:
        return "CJK"
    several = next((script for script, codes in _OTHER_SCRIPTS.items() if language in codes), "")
    return several or next((script for script, code in _ONE_LANGUAGE.items() if code == language), "LATIN")


def scripts(text: str) -> Counter[str]:
    """Letters of each script in ``text``; kana and Han count as three letters, Hangul as two (they say more)."""
    foreign = "".join(_NON_LATIN.findall(text))
    found: Counter[str] = Counter(map(script_of, foreign))
    del found[""]
    for script, weight in (("CJK", 3), ("HIRAGANA", 3), ("KATAKANA", 3), ("HANGUL", 2)):
        if script in found:
            found[script] *= weight
    found["LATIN"] += sum(map(str.isalpha, text)) - sum(map(str.isalpha, foreign))
    return +found


def detect(text: str) -> str:
    """ISO 639-1 code of the language most of ``text`` is written in, or empty when it cannot be told.

    Code, tables and names in Latin letters give empty rather than a guess. If the language of another script cannot
    be told, the one with most readers is returned, so that a text in Cyrillic is never taken for English.
    """
    sample = text[:SAMPLE]
    if sample.isascii():
        return _by_function_words(sample, "LATIN")
    found = scripts(sample)
    if not found:
        return ""
    script = found.most_common(1)[0][0]
    if script in {"CJK", "HIRAGANA", "KATAKANA"}:
        return "ja" if 20 * (found["HIRAGANA"] + found["KATAKANA"]) > found["CJK"] else "zh"
    if script in _ONE_LANGUAGE:
        return _ONE_LANGUAGE[script]
    others = _OTHER_SCRIPTS.get(script)
    return _by_function_words(sample, script) or (others[0] if others else "")


@cache
def function_words(language: str) -> frozenset[str]:
    """Function words of a language; empty for languages not listed."""
    return frozenset(FUNCTION_WORDS.get(language, "").split())


def _by_function_words(text: str, script: str) -> str:
    known = _word_weights(script)
    if not known:
        return ""
    words = _WORD.findall(text.casefold())
    votes: Counter[str] = Counter()
    occurrences: Counter[str] = Counter()
    for word, count in Counter(words).items():
        for language, weight in known.get(word, ()):
            votes[language] += min(count, 3) * weight  # "Los Angeles" ten times is not Spanish
            occurrences[language] += count * weight
    if not text.isascii():
        for letter, language in _LETTERS.items():
            if language in _SCRIPT_LANGUAGES[script] and letter in text:
                votes[language] += 60
    ranked = votes.most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return ""
    # In prose every second or third word is a function word; a tenth of the words suffices, but at least 40 points.
    is_likely = max(votes[ranked[0][0]], occurrences[ranked[0][0]]) >= max(40, 6 * len(words))
    return ranked[0][0] if is_likely else ""


@cache
def _word_weights(script: str) -> dict[str, tuple[tuple[str, int], ...]]:
    """Function words of a script's languages, each with its languages and weight: 60 / number of its languages."""
    languages_of: dict[str, list[str]] = {}
    for language in _SCRIPT_LANGUAGES.get(script, ()):
        for word in set(FUNCTION_WORDS[language].split()):
            languages_of.setdefault(word, []).append(language)
    return {word: tuple((code, 60 // len(codes) or 1) for code in codes) for word, codes in languages_of.items()}
