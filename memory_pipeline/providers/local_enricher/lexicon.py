"""Word lists: verb forms, people, pets, occupations, and words that make a statement worthless."""

from __future__ import annotations

from memory_pipeline.providers.local_enricher.predicates import RELATIONS


def words(text: str) -> frozenset[str]:
    """The words of a list written as running text."""
    return frozenset(text.split())


_IRREGULAR = """
go went gone|run ran run|buy bought bought|make made made|take took taken|get got got|meet met met|win won won|
lose lost lost|leave left left|quit quit quit|begin began begun|become became become|come came come|see saw seen|
read read read|write wrote written|ride rode ridden|drive drove driven|fly flew flown|swim swam swum|sing sang sung|
eat ate eaten|drink drank drunk|give gave given|teach taught taught|build built built|break broke broken|
hurt hurt hurt|find found found|spend spent spent|sell sold sold|pay paid paid|send sent sent|speak spoke spoken|
hold held held|fall fell fallen|catch caught caught|draw drew drawn|throw threw thrown|grow grew grown|
hang hung hung|put put put|cut cut cut|set set set|wear wore worn|hear heard heard|lead led led|
babysit babysat babysat|undergo underwent undergone|have had had|do did done|sleep slept slept|bring brought brought|
choose chose chosen|fight fought fought|keep kept kept|learn learned learned|bike biked biked
"""
_REGULAR = """
visit travel move live work study play paint cook bake dance hike camp ski surf climb walk jog cycle garden knit
practice
practise train volunteer mentor coach join attend graduate finish complete start launch open close sign register
enroll enrol apply pass fail celebrate host organize organise book order adopt foster rescue donate raise perform
present exhibit publish record watch listen try plant harvest decorate renovate repair fix design create carve sew
craft collect receive accept switch change stop marry divorce propose retire resign transfer relocate immigrate
emigrate tour explore participate compete race wrestle box meditate exercise stretch stream code program photograph
film manage own rent invest purchase love like enjoy hate adore dislike prefer want hope use smoke commute tutor
sponsor interview audition injure sprain recover name plan upgrade install develop expand help show ask talk share
cancel return submit earn discover reconnect collaborate contact hire partner propose roast grill brew prepare fish
sail row kayak bowl skate snowboard jam research look save stay head check binge stroll turn drop pick hang call
need follow serve deliver deploy migrate merge ship refactor debug review announce redecorate unpack pack
crochet embroider sculpt sketch draft journal forage recycle vote march protest fundraise testify attempt
continue pursue focus improve email struggle network acquire rehearse die study cherish treasure appreciate turn bring
sort
"""
_DOUBLING = words("jog knit babysit plan stop program box drop ship") - {"box"}


def _third(base: str) -> str:
    if base in ("have", "do", "go"):
        return {"have": "has", "do": "does", "go": "goes"}[base]
    if base.endswith(("s", "x", "z", "ch", "sh")):
        return base + "es"
    return base[:-1] + "ies" if base.endswith("y") and base[-2] not in "aeiou" else base + "s"


def _past(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    return base + (base[-1] if base in _DOUBLING else "") + "ed"


_PARTS = [tuple(entry.split()) for entry in _IRREGULAR.replace("\n", "").split("|")]
THIRD: dict[str, str] = {base: _third(base) for base in (*(parts[0] for parts in _PARTS), *_REGULAR.split())}
"""Base form → third person singular."""
BASE: dict[str, str] = {third: base for base, third in THIRD.items()}
"""Third person singular → base form."""
PAST: frozenset[str] = frozenset(
    [*(parts[1] for parts in _PARTS), *(_past(base) for base in _REGULAR.split()), "travelled", "learnt", "cancelled"]
)
PARTICIPLES: frozenset[str] = frozenset(
    [
        *(parts[2] for parts in _PARTS),
        *(_past(base) for base in _REGULAR.split()),
        "travelled",
        "been",
        "learnt",
        "cancelled",
    ]
)
SAME_IN_PAST = words("read put cut set quit hurt")
"""Verbs whose past looks like their present."""

STRONG_EVENTS = words(
    """adopted attended joined graduated launched moved travelled traveled visited volunteered registered
enrolled applied passed won published performed hosted retired resigned relocated immigrated
emigrated quit bought purchased donated rescued fostered married divorced participated competed
exhibited founded sold interviewed auditioned injured sprained broke underwent recovered ran hiked
camped painted built designed created completed finished opened developed acquired celebrated
organized organised planted baked renovated booked ordered hired signed"""
)
"""Past verbs that tell an event worth keeping without a date."""
WISHES = words(
    """visit travel move live study learn become start open launch buy adopt foster run volunteer help
marry quit retire teach join see go train climb hike volunteer raise own record perform publish
improve become"""
)
"""Verbs of "I want to ..." that tell of a life rather than of the task at hand."""
UNPLANNED = words(
    """keep try need want continue like love hate enjoy prefer hope stop ask show share check look use do
have stay"""
)
"""Plans with these verbs tell nothing that lasts ("I'm going to keep trying") and are left out."""

PERSON_WORDS: dict[str, str] = {word: relation for relation, words in RELATIONS.items() for word in words.split()}
"""What people call a relation → its canonical name."""
PLURAL_PEOPLE = words(
    """kids children parents friends sisters brothers siblings daughters sons cousins colleagues coworkers
co-workers folks roommates neighbours neighbors grandparents grandchildren grandkids in-laws dogs
cats pets puppies kittens"""
)
PETS: dict[str, str] = {
    word: word
    for word in [
        "dog",
        "cat",
        "rabbit",
        "bunny",
        "hamster",
        "parrot",
        "horse",
        "pony",
        "lizard",
        "gecko",
        "turtle",
        "tortoise",
        "snake",
        "ferret",
        "budgie",
        "canary",
        "goldfish",
    ]
} | {
    "puppy": "puppy",
    "pup": "puppy",
    "kitten": "kitten",
    "kitty": "cat",
    "guinea pig": "guinea pig",
    "doggo": "dog",
    "pet": "pet",
}

OCCUPATIONS = words(
    """accountant actor actress actuary administrator analyst anesthetist architect artist astronomer
attorney author baker banker barber barista bartender biologist bookkeeper botanist builder butcher
caregiver carer carpenter cashier chef chemist cleaner coder comedian composer conductor consultant
contractor cook copywriter counselor counsellor courier curator dancer dentist designer detective
developer dietitian diplomat director doctor driver economist editor electrician engineer
entrepreneur executive farmer filmmaker firefighter fisherman florist founder freelancer gardener
geologist goldsmith hairdresser historian housekeeper illustrator instructor interpreter investor
janitor jeweler journalist judge laborer landscaper lawyer lecturer librarian lifeguard linguist
locksmith machinist manager marketer mason mathematician mechanic midwife miner musician nanny
neurologist novelist nurse nutritionist optician optometrist painter paralegal paramedic
pediatrician pharmacist photographer physicist physician physiotherapist pianist pilot planner
plumber podcaster poet policeman policewoman politician potter principal producer professor
programmer psychiatrist psychologist psychotherapist radiologist realtor receptionist recruiter
reporter researcher sailor salesman salesperson scientist sculptor seamstress secretary singer
sociologist soldier solicitor songwriter statistician stylist surgeon surveyor tailor teacher
technician tester therapist trader trainer translator tutor undertaker vet veterinarian waiter
waitress welder winemaker writer zoologist freelancer co-founder ceo cto cfo intern apprentice"""
)
"""Head nouns of a job: "I'm a paediatric nurse" is work, "I'm a huge fan" is not."""
POSSESSIONS = words(
    """car bike bicycle motorcycle motorbike scooter boat van truck house home apartment flat condo cabin
cottage farm garden allotment guitar piano violin keyboard drum drums telescope camera laptop tablet
drone kayak canoe tent camper campervan store shop restaurant bakery cafe café studio gallery
bookstore brewery website blog channel podcast newsletter treadmill console printer greenhouse
vineyard"""
)
BUSINESSES = words(
    """store shop restaurant bakery cafe café studio gallery bookstore brewery business company startup
agency salon farm clinic practice channel podcast newsletter blog charity nonprofit foundation firm
bar gym school consultancy boutique"""
)
DIETS = "vegetarian|vegan|pescatarian|flexitarian|lactose intolerant|gluten[- ]free|coeliac|celiac|keto|halal|kosher"
CONDITIONS = (
    "asthma|diabetes|(?:type [12] )diabetes|epilepsy|migraines|arthritis|adhd|autism|dyslexia|anxiety|depression|"
    "insomnia|celiac disease|coeliac disease|crohn's|eczema|psoriasis|hay fever|high blood pressure|hypertension|"
    "anemia|endometriosis|sleep apnea|tinnitus|ptsd|ocd|lupus|long covid|a heart condition"
)
UNRESOLVED = words(
    """it its it's itself this that that's these those he she him they them there here you your yours
you're ya u ur he's she's they're thing things stuff something everything anything someone somebody
everyone ones"""
)
"""Words that leave a statement unreadable without the message."""
NOT_NAMES = words(
    """I I'm I've I'll I'd Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March
April May June July August September October November December Christmas Easter Thanksgiving
Halloween The A An And But So My We He She It They You Your Thanks Thank Yes No Hey Hi Hello Ok Okay
LOL OMG Well Just Now Also Is Was Has Had Does Did Not Really American British English French German
Italian Spanish Portuguese Brazilian Mexican Canadian Australian Indian Chinese Japanese Korean
Russian Ukrainian Polish Dutch Irish Scottish Swedish Norwegian Danish Finnish Greek Turkish Iranian
Catholic Christian Muslim Jewish Buddhist Hindu LGBTQ LGBT"""
)
NATIONALITIES = (
    "American|British|English|French|German|Italian|Spanish|Portuguese|Brazilian|Mexican|Canadian|Australian|Indian|"
    "Chinese|Japanese|Korean|Russian|Ukrainian|Polish|Dutch|Irish|Scottish|Welsh|Swedish|Norwegian|Danish|Finnish|"
    "Greek|Turkish|Iranian|Egyptian|Nigerian|Kenyan|Ghanaian|Moroccan|Argentinian|Chilean|Colombian|Peruvian|"
    "Vietnamese|Thai|Filipino|Indonesian|Pakistani|Bangladeshi|Austrian|Swiss|Belgian|Czech|Hungarian|Romanian|"
    "Croatian|Serbian|Israeli|Lebanese"
)
LANGUAGES = (
    NATIONALITIES.replace(
        "American|British", "Arabic|Hebrew|Mandarin|Cantonese|Hindi|Urdu|Bengali|Tamil|Swahili|Farsi|Persian"
    )
    + "|Catalan|Basque|Esperanto|Latin|Sign Language|sign language"
)
INSTRUMENTS_AND_SPORTS = (
    "piano|guitar|violin|cello|clarinet|flute|drums|bass|saxophone|trumpet|ukulele|harp|banjo|keyboard|viola|oboe|"
    "tennis|football|soccer|basketball|baseball|volleyball|badminton|squash|golf|rugby|cricket|hockey|chess|padel|"
    "pickleball|handball|lacrosse|poker|bridge|ping pong|table tennis|water polo|video games|board games|dungeons"
)
