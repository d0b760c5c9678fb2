"""What every generated conversation can draw on: names, dates, openers, acknowledgements and things worth remembering.

In a template `{word}` is filled with an entry of the slot of that name, drawn anew each time; `{my_…}` is filled from
the speaker's own life and `{subject}` from the conversation, so that they stay the same throughout.
"""

from __future__ import annotations


def entries(text: str) -> tuple[str, ...]:
    """Return the entries of a list written with commas, however it is broken into lines."""
    return tuple(" ".join(entry.split()) for entry in text.split(","))


MY = (
    "my_name",
    "my_partner",
    "my_sister",
    "my_friend",
    "my_boss",
    "my_child",
    "my_pet",
    "my_animal",
    "my_city",
    "my_street",
)
"""The fields of a speaker's life, in the order of `people.Person.life`."""

FIRST_NAMES = entries("""
    Ada, Aisha, Albert, Alma, Amir, Anders, Anouk, Arda, Astrid, Basma, Bela, Boris, Bram, Carla, Cem, Chiara,
    Clara, Dario, Deniz, Dina, Edith, Elif, Elio, Emeka, Enzo, Erik, Esra, Eva, Farid, Fatou, Felix, Fiona,
    Frida, Gil, Greta, Hana, Hugo, Ida, Igor, Ines, Iris, Ivo, Jana, Jonah, Jorge, Judit, Kaito, Karim, Katya,
    Kofi, Lars, Leila, Leon, Lina, Luca, Mads, Malik, Mara, Marek, Mina, Mirko, Nadia, Nils, Nora, Noah, Olga,
    Omar, Pablo, Paula, Pia, Quentin, Rania, Remy, Rosa, Ruben, Sami, Sara, Selma, Silas, Sven, Tara, Theo,
    Tilda, Timo, Uma, Vera, Viktor, Wanda, Yara, Yusuf, Zoe, Zora""")

LAST_NAMES = entries("""
    Abara, Acker, Adler, Almeida, Anand, Arslan, Baptiste, Barros, Becker, Bergman, Blum, Bosch, Brandt,
    Caruso, Castell, Cerny, Chukwu, Conti, Dahl, Demir, Dietz, Dubois, Duarte, Eklund, Erdem, Falk, Faria,
    Fischer, Fontana, Frost, Garza, Gruber, Haas, Hale, Hansen, Holm, Ibarra, Ito, Jansen, Joshi, Kaya, Keller,
    Kim, Kovac, Kruse, Lang, Larsen, Laurent, Lopes, Lund, Maier, Marino, Meyer, Moreau, Nagy, Novak, Nwosu,
    Olsen, Ortega, Owens, Park, Pereira, Petrov, Quist, Rao, Reyes, Richter, Rossi, Roth, Sato, Schmid, Silva,
    Soto, Stein, Tanaka, Toth, Ueda, Vargas, Vogel, Wagner, Weber, Winter, Wolff, Yilmaz, Young, Zeman""")

TENANT_FIRST = entries("""
    amber, birch, cedar, coral, ember, fern, harbor, hazel, indigo, ivory, juniper, linden, maple, meadow,
    olive, opal""")
TENANT_SECOND = entries("""
    desk, fields, garden, kitchen, lab, lane, library, market, pilot, school, studio, table, travel, works""")

ANIMALS = entries("cat, dog, rabbit, parrot, tortoise, horse, hamster")
PET_NAMES = entries("""
    Pepper, Mango, Luna, Pixel, Waffles, Nala, Bruno, Olive, Socks, Toffee, Kiwi, Ginger, Domino, Mochi,
    Ziggy, Clementine""")

CITIES = entries("""
    Lisbon, Porto, Madrid, Valencia, Lyon, Nantes, Brussels, Ghent, Utrecht, Rotterdam, Bremen, Cologne,
    Leipzig, Vienna, Graz, Zurich, Turin, Bologna, Ljubljana, Zagreb, Budapest, Prague, Brno, Krakow, Gdansk,
    Vilnius, Riga, Tallinn, Helsinki, Turku, Stockholm, Malmo, Oslo, Bergen, Aarhus, Dublin, Galway, Glasgow,
    Leeds, Bristol, Boston, Montreal, Toronto, Denver, Seattle, Austin, Nairobi, Accra, Osaka, Melbourne""")
STREETS = entries("""
    Mill Lane, Station Road, Elm Street, Canal Street, Church Hill, Park Avenue, Harbour Road, Orchard Close,
    Garden Row, Market Square, River Walk, North Street, Tower Hill, Linden Alley, School Lane,
    Bridge Street""")

SLOTS: dict[str, tuple[str, ...]] = {
    "name": FIRST_NAMES,
    "city": CITIES,
    "street": STREETS,
    "n": tuple(str(number) for number in range(2, 32)),
    "price": tuple(f"{euros}.{cents:02d}" for euros in range(6, 96) for cents in (0, 20, 50, 90)),
    "clock": tuple(f"{hour}:{minute:02d}" for hour in range(7, 22) for minute in range(0, 60, 5)),
    "date": tuple(
        f"{day} {month}"
        for month in ("January", "March", "April", "May", "July", "August", "October", "December")
        for day in range(1, 29)
    ),
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "when": ("last Monday", "last Saturday", "two weeks ago", "yesterday", "last month", "in spring", "three days ago"),
    "soon": ("next week", "next month", "on Saturday", "in two weeks", "this autumn", "tomorrow", "in the new year"),
    "part": ("in the morning", "at noon", "in the afternoon", "after work", "in the evening", "before breakfast"),
    "mood": entries("""
        tired, curious, relieved, nervous, proud, torn, hopeful, annoyed, amused, impatient, calm, undecided"""),
    "job": entries("""
        nurse, carpenter, translator, software developer, teacher, baker, architect, paramedic, accountant,
        photographer, gardener, librarian, electrician, pharmacist, sound engineer, dentist, bus driver,
        chemist, journalist, florist"""),
    "company": tuple(
        f"{first}{second}"
        for first in ("North", "Blue", "Bright", "Stone", "Green", "Silver", "Clear", "Oak")
        for second in ("bridge", "field", "light", "water", "gate", "wind")
    ),
    "food": entries("""
        mushrooms, olives, blue cheese, lentils, aubergines, oysters, rhubarb, coriander, beetroot, tofu,
        anchovies, pumpkin, figs, sauerkraut, okra, artichokes, fennel, dark chocolate, liquorice, radishes"""),
    "allergen": entries("""
        peanuts, walnuts, shellfish, pollen, penicillin, wasp stings, kiwi, soy, celery, sesame, dust mites,
        latex"""),
    "drink": entries("coffee, black tea, green tea, orange juice, cola, red wine, beer, oat milk, lemonade"),
    "hobby": entries("""
        climbing, pottery, rowing, chess, the guitar, birdwatching, sewing, tango, bouldering, woodwork,
        choir singing, swimming, yoga, watercolours, astronomy, knitting"""),
    "thing": entries("""
        cargo bike, electric piano, second-hand camera, coffee grinder, tent, sewing machine, folding kayak,
        telescope, bread oven, standing desk, record player, road bike, cello, greenhouse"""),
    "relative": entries("mother, father, aunt, uncle, cousin, grandmother, brother, niece, nephew, godson"),
}

FACTS = """My sister {my_sister} is getting married in {city} on {date}.
My sister {my_sister} lives in {city} now, she moved there {when}.
I moved to {city} {when}, to a flat on {street} number {n}.
We're moving to {city} {soon}, my partner {my_partner} got a job there as a {job}.
I started a new job at {company} {when}, as a {job}.
I work as a {job} at {company} in {city}, {n} minutes from home.
I quit my job at {company} {when} and I want to become a {job}.
My boss {my_boss} at {company} is leaving on {date}.
I'm allergic to {allergen}, and my {relative} {name} can't have {food}.
I don't drink {drink} any more, I stopped on {date}.
I love {food}, but I can't stand {drink} before {clock}.
I used to hate {food}, and now I eat them every {weekday} with {name}.
Our {my_animal} {my_pet} has to see the vet on {weekday} at {clock}.
Our {my_animal} {my_pet} is {n} months old, we got it from {name} in {city}.
My child {my_child} starts school in {my_city} on {date}, with {name}.
My friend {my_friend} is visiting me from {city} on {date}.
My friend {my_friend} had a baby {when}, her name is {name}.
My {relative} {name} turns {n}0 on {date} and I'm planning the party.
I bought a {thing} from {name} {when}, for {price} euros.
I sold my {thing} to {name} for {price} euros {when}.
I started {hobby} {when} with {name}, every {weekday} at {clock}.
I gave up {hobby} {when}, I'd rather do {hobby} with {name}.
I'm flying to {city} on {date} and I'm staying with {name}.
We came back from {city} {when}, {name} took {n}0 photos.
My birthday is on {date}, and {my_partner} is taking me to {city}.
I have an exam on {date} at {clock}, {name} is studying with me.
I passed the exam in {city} {when}, with {n} points more than {name}.
I live in {my_city} with {my_partner}, on {my_street}, since {date}.
Actually it's {weekday} at {clock}, not {weekday}, I mixed that up with {name}.
Actually the party is on {date}, not on {date}, {my_friend} has told me.
My favourite city is {city}, I was there with {my_friend} for {n} days.
My name is {my_name}, I'm a {job} from {city} and I'm learning {hobby}.""".splitlines()

ACKNOWLEDGED = """Thanks!
Great, thank you.
Okay, got it.
Perfect.
Yes, please.
Good, let's do that.""".splitlines()

ANSWERED = """You're welcome.
Any time.
Done.
Glad to help.
All right, noted.
Consider it done.""".splitlines()

OPENERS = """Hi again, {my_name} here.
Good morning, it's {clock} and I'm {mood}.
One more thing about {weekday}.
So, about {weekday} at {clock}.
Quick question before {clock}.
I'm {mood} today.
{name} asked me to write to you.
I've got {n} minutes.
Back from {city} at last.
It's {my_name}, from {my_city}.
I talked to {name} at {clock}.
This is for {date}.
I'm on the train to {city}.
Before {weekday}, please.
{my_partner} says hello.
No hurry, {date} would be fine.""".splitlines()

REPLY_OPENERS = """Of course, {my_name}.
Good idea.
I've put it down for {weekday} at {clock}.
I see why you're {mood}.
Let me sum it up for {name}.
For {date}, then.
That fits with what you said on {date}.
Here's what I'd do by {clock}.
With {n} days to go, that's realistic.
Noted for {weekday}, {my_name}.
Say hello to {name} from me.
Two things, before {clock}.""".splitlines()

ANY_USER = """I talked about it with {name} on {weekday}, and she would rather wait until {date}.
{my_partner} thinks {price} euros is too much, and I'm {mood} about it.
If it can't be done by {clock} on {weekday}, then {date} is fine too.
Last time it took {n} days, and {name} had to call them twice from {city}.
I read that people in {city} do it quite differently, usually {part}.
My neighbour {name} on {my_street} has done the same {n} times.
Could you write that down for {name}, so that nobody forgets it before {date}?
To be honest I'm {mood}, because {name} promised to help and then went to {city}.
I have {n} minutes on {weekday} {part}, that should be enough.
Please keep it short, I'm reading this on the tram to {street} at {clock}.""".splitlines()

ANY_ASSISTANT = """I'd leave {n} minutes for it on {weekday} {part}, and a little more in case {name} is late.
If that's too much, {date} would work just as well, and nothing is lost.
From what you told me about {name}, I'd ask first and decide after {clock}.
That makes about {price} euros in all, including what you paid in {city}.
I'll remind you on {weekday} at {clock}, unless you tell me otherwise.
There are {n} ways to go about it, and the simplest one is usually the best, as {name} said.
Being {mood} about it is quite normal, and by {date} it will look different.
I've written it down under {weekday}, next to the note about {name}.
Shall I send the short version to {name} {part}, or do you want to see it first?
Compared with {city} that's not bad at all, and you have until {date}.""".splitlines()
