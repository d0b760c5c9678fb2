"""What generated conversations are about: for each topic its subjects, its own words and its sentences.

Templates are filled as told in `phrases`; the words of `words` are slots of the topic alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from memory_pipeline.synthetic.phrases import entries


@dataclass(frozen=True)
class Topic:
    name: str
    project: str | None
    subjects: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    user: tuple[str, ...]
    assistant: tuple[str, ...]


def _topic(name: str, project: str | None, subjects: str, user: str, assistant: str, **words: str) -> Topic:
    return Topic(
        name,
        project,
        entries(subjects),
        {word: entries(listed) for word, listed in words.items()},
        tuple(user.strip().splitlines()),
        tuple(assistant.strip().splitlines()),
    )


TOPICS: tuple[Topic, ...] = (
    _topic(
        "cooking",
        None,
        """the dinner for six, Sunday lunch, the lunch boxes, a picnic, the birthday buffet,
        a quick supper, the soup for the freezer, a vegetarian menu, the weekly plan,
        breakfast for guests, a barbecue, the school bake sale""",
        """
I have {amount} of {produce} and {name} is coming at {clock}, what can I make for {subject}?
How long does a {dish} with {produce} keep in the fridge, until {weekday} or until {date}?
The {dish} for {subject} turned out too salty, {name} still had {n} spoons of it.
Can I put {produce} into a {dish}, or will {name} notice that it isn't {produce}?
For {subject} I need a shopping list under {price} euros, with {produce} and without {food}.
The oven was at {n}5 degrees too much and the {dish} came out dark, {name} laughed.
{name} doesn't eat {food}, so what goes with {produce} in a {dish}?
I cooked the {dish} from {city} again, this time with {amount} of {produce}.""",
        """
With {amount} of {produce} I'd make a {dish}, it takes {n} minutes and {name} can help.
For {subject} a {dish} is the safest choice, add {amount} of {produce} at {clock}, {name} will like it.
Roast the {produce} for {n} minutes until {clock}, then the {dish} for {name} needs no more than lemon.
Instead of {food} take {produce}, about {amount}, and let {name} taste it before {clock}.
The list for {subject} comes to {price} euros: {produce}, {produce}, rice and a little {food}.
A {dish} keeps for {n} hours at most with {produce} in it, so I'd make it on {weekday} at {clock}.
If it's too salty, add {amount} of {produce} and let the {dish} simmer until {clock}.""",
        amount="""200 grams, half a kilo, two handfuls, a tin, three cups, a bag, one kilo, a small bowl,
        leftovers, a box""",
        produce="""carrots, spinach, chickpeas, courgettes, tomatoes, red lentils, potatoes, leeks, broccoli,
        sweet corn, peppers, cabbage, white beans, cauliflower, peas, kale, sweet potatoes,
        green beans, cucumbers, onions""",
        dish="""curry, gratin, stew, salad, risotto, quiche, soup, stir-fry, casserole, lasagne, tagine,
        frittata, pilaf, pie, chowder""",
    ),
    _topic(
        "travel",
        "trips",
        """the trip to the coast, the long weekend, the train journey, the summer holiday,
        the visit at Easter, the cycling tour, the city break, the family reunion, the ferry crossing,
        the hiking week, the winter trip, the stopover""",
        """
Is there a {transport} from {city} to {city} on {date} that arrives before {clock}?
For {subject} we need a {stay} in {city} for {n} nights, not more than {price} a night.
{name} forgot the {item} in {city}, can they send it to {street} by {date}?
How much time do I need to change in {city}, if the {transport} gets in at {clock} on a {weekday}?
Please add {item} to the packing list for {subject}, and remind {name} on {date}.
The {stay} in {city} wants {price} euros more because we arrive after {clock}.
We missed the {transport} to {city} by {n} minutes, because {name} went back for the {item}.
What should one see in {city} in {n} hours, {part}, with {name} who has seen everything?""",
        """
The {transport} from {city} leaves at {clock} and gets to {city} with {n} minutes to spare.
I found a {stay} in {city} for {price} a night, {n} minutes from the station.
For {subject} I'd pack the {item} first and decide about the rest on {weekday}.
Change in {city} rather than in {city}, there's a {transport} every {n} minutes until {clock}.
Ask for the {item} at the desk in {city}, they keep things until {date}.
You can cancel the {stay} until {date}, after that it costs {price} euros.
In {city} I'd take a {transport} to the old harbour {part} and walk back by {clock}.""",
        transport="train, night train, bus, ferry, coach, regional train, tram, shuttle, flight",
        stay="""guest house, small hotel, hostel room, holiday flat, cabin, farm stay, room with a kitchen,
        bed and breakfast""",
        item="""rain jacket, charger, passport, sun hat, walking boots, swimsuit, binoculars, sleeping bag,
        adapter, travel pillow, guide book, first-aid kit, headphones, thermos""",
    ),
    _topic(
        "work",
        "work",
        """the quarterly report, the new website, the team offsite, the budget, the client workshop,
        the job advert, the audit, the product launch, the office move, the training plan,
        the customer survey, the price list""",
        """
{name} wants the {document} for {subject} by {weekday}, {clock}, and I haven't begun.
Can you make the {document} shorter, about {n} lines, so that {my_boss} reads it before {clock}?
In the meeting about {subject} {name} said we need {n} more days and {price} thousand euros.
I have to tell {name} that the {document} is late again, how do I say that {tone}?
The {team} team moved {subject} to {date}, which collides with the {document} for {name}.
My {document} has {n} open comments, {k} of them from {name} and the rest from the {team} team.
Please turn my notes on {subject} into a {document}, {tone}, for {name} in {city}.
{my_boss} asked who takes over {subject} while {name} is in {city} until {date}.""",
        """
I'd open the {document} with the result, then {n} lines of reasons, and close with what {name} has to decide.
For {subject} a {document} of {n} lines is enough, the {team} team can ask for more by {date}.
You could write: the {document} comes on {weekday} at {clock}, and here is what {name} can use already.
Said {tone}: we need until {date}, because the {team} team waits for {name}.
I've split {subject} into {n} steps, and the first one is the {document} for {my_boss}.
Block {clock} on {weekday} for the {document}, and let {name} read it before the {team} team does.
Of the {n} comments on {subject} I'd answer {k} today and leave the rest to {name}.""",
        document="""summary, draft, slide deck, proposal, memo, spreadsheet, agenda, contract, roadmap, offer,
        checklist, minutes""",
        team="""sales, finance, design, support, data, legal, operations, research, platform, marketing""",
        tone="politely, briefly, clearly, in plain words, with a smile, without blame, firmly",
        k="three,four,five,six,half,most,a few,two",
    ),
    _topic(
        "language",
        "lessons",
        """the lesson on food, the past tense, numbers, the text about the market, small talk,
        the phone call, the listening exercise, the letter to the landlord, asking the way,
        the story with the dog, the weather, polite requests""",
        """
How do I say that {name} has {n} {noun} and would like to {verb} on {weekday}?
I keep mixing up the {grammar} when I talk about {noun}, could we practise until {clock}?
In {subject} there was a word for {noun} that I didn't know, {name} said it {n} times.
Correct me please: yesterday I wanted to {verb} with {name} in {city}, but the {noun} were gone.
I got {n} points in the exercise on the {grammar}, {name} got {n}, and we met in {city}.
Is it polite to ask somebody in {city} about {noun}, for instance {name}'s mother?
Give me five sentences with {noun} and the {grammar}, about {name} who loves to {verb}.
My teacher {name} says I {verb} like somebody from {city}, is that good?""",
        """
Very good, only the {grammar} needs a second look: think of {name} and the {n} {noun}.
Try this: tomorrow {name} is going to {verb} in {city}, with {n} {noun}.
For {subject} learn the {noun} first, and practise the {grammar} with {name} until {date}.
{n} right answers is fine, {name} had {n}, and in {subject} nobody likes the {grammar}.
Say it slowly: I would like to {verb}, please, with the {noun} of {name}.
People in {city} would say it shorter and drop the {grammar}, but {name} will understand you.
Let's repeat {subject} on {weekday} at {clock}, with {n} new {noun} and one game.""",
        noun="""apples, tickets, keys, neighbours, trains, letters, shoes, stamps, chairs, suitcases, oranges,
        newspapers, cups, windows, flowers, gloves, sandwiches, coins, umbrellas, pencils""",
        verb="""dance, pay, cook, swim, wait, sing, travel, complain, rest, draw, garden, bargain, sleep in,
        call home, whisper, celebrate""",
        grammar="""word order, past participle, articles, plural, dative, subjunctive, prepositions,
        adjective endings, reflexive pronouns, conditional, imperative, comparative""",
    ),
    _topic(
        "health",
        None,
        """the running plan, my back, sleep, the knee, the half marathon, the check-up, the stretching,
        the new diet, the headaches, the evening walk, swimming, the physiotherapy""",
        """
I ran {n} kilometres with {name} {part} and now my {body} hurts, should I rest until {weekday}?
For {subject} the doctor in {city} gave me {n} exercises for the {body}, twice a day before {clock}.
I slept {n} minutes longer than on {date}, maybe it's because of {habit}.
Can I do {habit} with a sore {body}, or is it better to wait until {date}?
{name} swears by {habit} at {clock}, does that do anything for the {body}?
My appointment about {subject} is at {clock} on {date}, please remind me and {name}.
After {n} days of {habit} my {body} feels better and I'm {mood}.
What do I tell the doctor about my {body}, it started on {date} after {habit} with {name}?""",
        """
Give the {body} rest until {weekday}, then {n} minutes of {habit}, and see how it feels by {date}.
For {subject} I'd alternate: {habit} on {weekday}, the {body} exercises on {weekday}, {n} minutes each.
Write down when the {body} hurts, before or after {habit}, and take the list along on {date}.
If the {body} isn't better by {date}, see a doctor in {city}; until then {habit} is fine.
{n} minutes of {habit} at {clock} is plenty, {name} doesn't have to know.
Your appointment is on {date} at {clock}, I'd leave home {n} minutes earlier because of the {body}.
With {subject} small steps win: {n} minutes more {habit} each week until {date}.""",
        body="""knee, lower back, shoulder, ankle, neck, hip, wrist, elbow, calf, heel, left foot, jaw""",
        habit="""stretching, cold showers, walking, an early dinner, less screen time, cycling to work,
        breathing exercises, strength training, easy runs, a nap, no sugar, reading in bed, swimming,
        balance exercises""",
    ),
    _topic(
        "home",
        "home",
        """the new flat, the bathroom, the balcony, the move, the cellar, the kitchen shelf, the heating,
        the garden, the hall, the attic, the workshop, the children's room""",
        """
The {object} in {subject} is broken since {date} and the landlord {name} doesn't answer.
How many litres of {colour} paint do I need for {n} square metres, {name} says {n}?
I want to hang the {object} next to the {object}, {n} centimetres above the floor, is that odd?
The carpenter {name} wants {price} euros for a {object} in {colour}, delivery on {date}.
Which {plant} survives in {subject} when {name} forgets the water for {n} days?
We painted {subject} {colour} {when}, and {name} put the {object} right in front of it.
Please put on the list for {subject}: a {object}, {n} screws, {colour} paint, and call {name} at {clock}.
My {plant} has brown leaves since {weekday}, {name} watered it {n} times while I was in {city}.""",
        """
Write to {name} with a photo of the {object} and a date, {date} for example, and keep a copy.
For {n} square metres in {colour} plan {n} litres and two coats, the second one on {weekday}.
A {object} at {n} centimetres looks fine in {subject}, if the wall behind it is {colour}.
{price} euros for a {object} is fair, ask {name} whether delivery to {street} is part of it.
The {plant} would like {subject}: water on {weekday}, little sun, and no {name} with a watering can.
I've added the {object}, the {colour} paint and {n} screws, and {name} at {clock}.
Brown leaves on a {plant} mean too much water, wait {n} days and turn it towards the window {part}.""",
        object="""shelf, lamp, mirror, sofa, washing machine, wardrobe, desk, radiator, door handle, coat rack,
        bookcase, tap, bench, stove""",
        colour="""white, light grey, dark green, mustard, sky blue, terracotta, cream, pale pink, petrol, sand,
        lilac, brick red""",
        plant="""fern, monstera, basil, olive tree, tomato plant, orchid, cactus, lavender, rubber plant,
        rosemary, peace lily, geranium""",
    ),
    _topic(
        "events",
        None,
        """the wedding, the street party, the house-warming, the school concert, the book club,
        the anniversary, the farewell, the game night, the christening, the surprise party,
        the flea market, the film evening""",
        """
We're {n} people for {subject} on {date}, and {name} wants {music}, what do you think?
Who brings the {treat} to {subject}, {name} or {name}, and at {clock} or earlier?
Write an invitation to {subject} for {name}, {weekday} at {clock} on {street}, with {music}.
{name} can't come to {subject}, so there are {n} portions of {treat} too many.
I have to give a speech at {subject}, {n} minutes, about {name} and the time in {city}.
A present for {name} up to {price} euros, something with {music} or {treat}, before {date}.
{subject} moved from {weekday} to {date}, I've told {name} and {n} others.
The room for {subject} costs {price} euros until {clock}, and {name} knows somebody for {music}.""",
        """
For {n} guests I'd order {treat} and let {name} bring the rest by {clock}.
{music} fits {subject}, if it ends at {clock} and the neighbours on {street} know about it.
Dear {name}, come to {subject} on {weekday} at {clock}, there will be {treat} and {music}.
Begin the speech with {city}, then one story about {name}, and stop after {n} minutes.
For {price} euros {name} might like a record with {music}, or a class in making {treat}.
I've changed {subject} to {date} and told {name}; {n} people haven't answered yet.
The room on {street} for {price} euros is a good offer, as long as {music} is allowed until {clock}.""",
        music="""a brass band, old vinyl, a jazz trio, folk songs, a string quartet, karaoke, a playlist,
        a choir, drums, no music at all""",
        treat="""lemon cake, samosas, potato salad, dumplings, cheese boards, pancakes, ice cream, focaccia,
        spring rolls, apple pie, stuffed vine leaves, popcorn""",
    ),
    _topic(
        "money",
        "paperwork",
        """the tax return, the electricity bill, the phone contract, the insurance, the rent increase,
        the travel refund, the savings plan, the second-hand sale, the bank change, the pension letter,
        the parking fine, the gym membership""",
        """
I got a letter about {subject} dated {date}, they want {price} euros within {n} days, is that right?
How do I cancel {subject} with {company}, {name} says I need a {paper} by {date}?
Where did I put the {paper} for {subject}, I had it in {city} on {date} with {name}?
If I put aside {price} euros every {weekday}, what do I have after {n} weeks, {name} wants to know?
{company} charged {price} euros twice for {subject}, on {date} and again on {date}.
Draft an answer to {company} about {subject}: I sent the {paper} on {date}, to {name}.
{name} owes me {price} euros for {subject} since {date}, how do I ask without being rude?
Which {paper} do I need for {subject}, the one from {company} or the one from {date}?""",
        """
{price} euros sounds high for {subject}, compare it with the {paper} of {date} first.
You can cancel {subject} until {date}: one letter to {company}, the {paper} attached, {n} days' notice.
The {paper} was in the folder from {date}, behind the one for {company}.
{price} euros a week for {n} weeks is a good start, and {name} can check the sum with you on {weekday}.
Ask {company} for the second {price} euros back, with both dates and a copy of the {paper}.
Dear {company}, the {paper} for {subject} went out on {date}; please confirm within {n} days.
Tell {name} {part}: for {subject} it was {price} euros, {date} would be a good day to settle it.""",
        paper="""receipt, contract, form, invoice, bank statement, certificate, signed copy, reference number,
        meter reading, reminder""",
    ),
)
