"""The page without Redis, workers and a browser: what it shows, what its forms do, and with others away."""

from datetime import datetime, timedelta, timezone

from celery_redis_expiry import StoreUnavailable, Timer
from django.http import HttpResponse
from django.test import Client, TestCase, override_settings

from referrals import api, services, showing, sms
from referrals.models import Referral
from referrals.tests import patched

JSON = {"Accept": "application/json"}


def timer(remaining: float, state: str = "waiting") -> Timer:
    due = None if state == "parked" else datetime.now(timezone.utc) + timedelta(seconds=remaining)
    return Timer("id", "referral:1", "check_signup", due, due and remaining, "trigger", state)


class PageTest(TestCase):
    def setUp(self) -> None:
        self.get_timer = patched(self, showing, "get_timer")
        self.get_timer.return_value = None
        self.sent = patched(self, sms, "sent")
        self.sent.return_value = []
        self.schedule = patched(self, services, "schedule_on_expiry")
        self.cancel = patched(self, services, "cancel")
        self.reschedule = patched(self, services, "reschedule")
        self.find = patched(self, services, "get_timer")

    def post(self, path: str, data: dict[str, object] | None = None, **headers: str) -> HttpResponse:
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post(path, data or {}, headers=headers)

    def friend(self, **fields: object) -> Referral:
        return Referral.objects.create(referrer="Ann", phone="555-0100", **fields)

    # -- what it shows

    def test_each_state_is_said(self) -> None:
        now = datetime.now(timezone.utc)
        for fields, found, words in (
            ({}, timer(30), "A text at"),
            ({}, timer(0, "parked"), "Parked"),
            ({}, timer(0, "claimed"), "on its way"),
            ({}, None, "No timer"),
            ({"signed_up_at": now}, None, "Signed up"),
            ({"cancelled_at": now}, None, "Cancelled"),
            ({"reminder_claimed_at": now}, None, "being sent"),
            ({"reminder_claimed_at": now, "reminded_at": now}, None, "Got the text"),
        ):
            with self.subTest(words):
                Referral.objects.all().delete()
                self.friend(**fields)
                self.get_timer.return_value = found
                self.assertContains(self.client.get("/"), words)

    def test_it_counts_by_the_clock_of_redis(self) -> None:
        self.friend()
        running = timer(30)
        self.get_timer.return_value = running
        self.assertEqual(self.client.get("/live").json()["now"], running.due.timestamp() - 30)

    def test_a_piece_with_nothing_new_keeps_its_version(self) -> None:
        self.friend()
        self.get_timer.return_value = running = timer(30)

        def version() -> str:
            return self.client.get("/live").json()["lists"]["friends"][0]["version"]

        first = version()
        self.get_timer.return_value = Timer(**{**vars(running), "remaining": 29.0})
        self.assertEqual(version(), first)
        self.get_timer.return_value = timer(60)
        self.assertNotEqual(version(), first)

    def test_it_is_bounded_and_the_newest_come_first(self) -> None:
        friends = [self.friend() for _ in range(showing.REFERRALS + 5)]
        shown = [piece["id"] for piece in self.client.get("/live").json()["lists"]["friends"]]
        self.assertEqual(shown, [f"friend-{one.pk}" for one in reversed(friends[5:])])

    def test_what_users_write_stays_text(self) -> None:
        Referral.objects.create(referrer="<script>", phone="<b>")
        self.sent.return_value = [sms.Text("key", "<b>", "<script>", datetime.now(timezone.utc))]
        for html in (self.client.get("/").content.decode(), str(self.client.get("/live").json())):
            self.assertIn("&lt;b&gt;", html)
            self.assertNotIn("<b>’s", html)
            self.assertNotIn("<script>’s", html)
            self.assertNotIn('bubble"><script>', html)

    # -- what its forms do

    def test_a_form_refers_and_the_page_can_be_reloaded(self) -> None:
        answer = self.post("/friends", {"referrer": "Ann", "phone": "555-0100", "delay": "5"})
        self.assertRedirects(answer, "/")
        self.assertEqual(self.schedule.call_args.kwargs["seconds"], 5)

    @override_settings(REFERRAL_DELAY=60)
    def test_without_a_delay_it_is_the_usual_one(self) -> None:
        self.post("/friends", {"referrer": "Ann", "phone": "555-0100", "delay": ""})
        self.assertEqual(self.schedule.call_args.kwargs["seconds"], 60)

    def test_what_is_wrong_is_said_beside_the_field(self) -> None:
        for delay in ("-1", "nan", "1e9", "soon"):
            with self.subTest(delay):
                answer = self.post("/friends", {"referrer": "Ann", "phone": "", "delay": delay})
                self.assertContains(answer, "This field is required.", status_code=400)
                told = self.post("/friends", {"phone": "555-0100", "delay": delay}, **JSON).json()
                self.assertEqual(set(told["errors"]), {"referrer", "delay"})
        self.assertFalse(Referral.objects.exists())

    def test_each_button(self) -> None:
        self.find.return_value = running = timer(30)
        referral = self.friend()
        self.assertRedirects(self.post(f"/friends/{referral.pk}/later"), "/")
        later = running.due + timedelta(seconds=showing.LATER)
        self.reschedule.assert_called_once_with(referral.timer_name, at=later)
        self.assertRedirects(self.post(f"/friends/{referral.pk}/cancel"), "/")
        self.cancel.assert_called_once_with(referral.timer_name)
        self.assertRedirects(self.post(f"/friends/{referral.pk}/sign-up"), "/")
        referral.refresh_from_db()
        self.assertIsNotNone(referral.cancelled_at)
        self.assertIsNotNone(referral.signed_up_at)

    def test_a_button_pressed_too_late_says_so(self) -> None:
        self.find.return_value = None
        now = datetime.now(timezone.utc)
        referral = self.friend(signed_up_at=now, reminder_claimed_at=now)
        for act, words in (("later", "no timer"), ("cancel", "decided"), ("sign-up", "before")):
            with self.subTest(act):
                answer = self.post(f"/friends/{referral.pk}/{act}", **JSON)
                self.assertContains(answer, words, status_code=409)

    def test_what_there_is_not(self) -> None:
        self.assertEqual(self.post(f"/friends/{self.friend().pk}/promote").status_code, 404)
        self.assertEqual(self.post("/friends/99999999999999999999/later").status_code, 404)
        self.assertEqual(self.client.get("/friends").status_code, 405)

    def test_foreign_pages_can_press_nothing(self) -> None:
        client = Client(enforce_csrf_checks=True)
        data = {"referrer": "Ann", "phone": "555-0100"}
        self.assertEqual(client.post("/friends", data).status_code, 403)
        token = client.get("/").cookies["csrftoken"].value
        self.assertEqual(client.post("/friends", data | {"csrfmiddlewaretoken": token}).status_code, 302)

    def test_static_files_are_served_without_debug(self) -> None:
        for name in ("style.css", "live.js"):
            self.assertEqual(self.client.get(f"/static/{name}").status_code, 200)

    # -- when others are away

    def test_redis_is_away(self) -> None:
        self.get_timer.side_effect = StoreUnavailable("away")
        self.find.side_effect = StoreUnavailable("away")
        referral, _ = self.friend(), self.friend()
        for path in ("/", "/live"):
            self.assertContains(self.client.get(path), "Redis does not answer.")
        # the page would take a timeout for each
        self.assertEqual(self.get_timer.call_count, 2)
        patched(self, services, "refer").side_effect = StoreUnavailable("away")  # comes on commit, really
        answer = self.post("/friends", {"referrer": "Ann", "phone": "555-0102"})
        self.assertContains(answer, "555-0102 is saved, but has no timer", status_code=503)
        answer = self.post(f"/friends/{referral.pk}/later")
        self.assertContains(answer, "left as it is", status_code=503)

    def test_the_gateway_is_away(self) -> None:
        self.sent.side_effect = sms.GatewayError("away")
        self.assertContains(self.client.get("/"), "The SMS gateway does not answer.")


class ApiTest(TestCase):
    """What curl is told."""

    def setUp(self) -> None:
        patched(self, services, "schedule_on_expiry")
        patched(self, services, "cancel")
        self.get_timer = patched(self, api, "get_timer")
        self.get_timer.return_value = None

    def test_it_needs_no_token(self) -> None:
        client = Client(enforce_csrf_checks=True)
        answer = client.post("/referrals", {"referrer": "Ann", "phone": "555-0100"})
        self.assertEqual((answer.status_code, answer.json()["phone"]), (201, "555-0100"))
        path = f"/referrals/{answer.json()['id']}"
        self.assertIsNotNone(client.post(f"{path}/sign-up").json()["signed_up_at"])
        self.assertIsNone(client.get(path).json()["timer_due"])

    def test_it_says_what_is_wrong(self) -> None:
        answer = self.client.post("/referrals", {"referrer": "Ann"})
        self.assertEqual(answer.status_code, 400)
        self.assertEqual(answer.json(), {"error": "phone: This field is required."})

    def test_redis_is_away(self) -> None:
        self.get_timer.side_effect = StoreUnavailable("away")
        answer = self.client.post("/referrals", {"referrer": "Ann", "phone": "555-0100"})
        self.assertEqual((answer.status_code, answer.json()), (503, {"error": api.AWAY}))
        saved = Referral.objects.get()
        self.assertEqual(self.client.post(f"/referrals/{saved.pk}/sign-up").status_code, 503)
        saved.refresh_from_db()
        self.assertIsNotNone(saved.signed_up_at)
